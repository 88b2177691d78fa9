"""An adapter from a native space to a few channels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from rslwm.flops import Pass, blank, count
from rslwm.latents.adapters.base import Adapter, AdapterConfig
from rslwm.latents.space import open_adapter
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import OnEpisodes, Sizes, on_episodes, reading, training
from rslwm.study.stages.features import FeaturesStage
from rslwm.tensors import write_tensors
from rslwm.train.latents import train_adapter

if TYPE_CHECKING:
    from rslwm.study.graph import Variant


@dataclass(frozen=True, eq=False, kw_only=True)
class AdapterStage(OnEpisodes[Path]):
    """Train or fit an adapter; it opens as the file of its weights."""

    kind = "adapter"

    features: FeaturesStage
    settings: AdapterConfig
    channels: int
    seed: int

    @classmethod
    def of(cls, variant: Variant) -> AdapterStage:
        return cls(
            **on_episodes(variant, framewise=True),
            label=variant.label,
            features=variant.pull(FeaturesStage),
            settings=variant.study.config.adapter,
            channels=variant.entry.channels,
            seed=variant.seed,
        )

    @property
    def seconds(self) -> float:
        return self.settings.optim.steps * 0.05

    def demand(self, sizes: Sizes) -> Demand:
        spec = self.features.spec
        if self.settings.kind == "pca":  # one covariance
            tokens = sizes.frames * prod(spec.grid)
            fitted = Demand(flops=2 * tokens * spec.channels**2, memory=8 * spec.channels**2)
            return reading(self, sizes.frames, fitted)
        one = restoring(self.settings, *self.features.encoder.tokens, self.channels)
        return reading(self, self.settings.optim.samples, training(self.settings.optim, one))

    def run(self, work: Workspace) -> None:
        corpus, features = self.corpus(work), work.open(self.features)
        adapter, trained = train_adapter(
            corpus, features, self.channels, self.settings, self.seed, work.out, self.compute, work.progress
        )
        write_tensors(adapter.state_dict(), work.out / "adapter.safetensors")
        work.write_facts(**trained.facts)

    def open(self, work: Workspace) -> Path:
        return work.out / "adapter.safetensors"


# Counted once each: many spaces of a study have the same sizes.


@cache
def compressing(config: AdapterConfig, tokens: int, width: int, channels: int) -> Pass:
    """One view of a frame through the first half of an adapter from ``width`` to ``channels``."""
    return count(
        lambda: open_adapter(config, width, channels), lambda adapter: adapter.compress(blank(1, tokens, width))
    )


@cache
def restoring(config: AdapterConfig, tokens: int, width: int, channels: int) -> Pass:
    """One view of a frame through both halves of it."""

    def run(adapter: Adapter) -> Tensor:
        return adapter.reconstruct(adapter.compress(blank(1, tokens, width)).to(blank(1).dtype))

    return count(lambda: open_adapter(config, width, channels), run)
