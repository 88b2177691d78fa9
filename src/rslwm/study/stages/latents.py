"""A latent space: the adapter behind an encoder, the space that they make, the latents of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from rslwm.compute import device
from rslwm.flops import Pass, blank, count
from rslwm.latents.adapters.base import Adapter, AdapterConfig
from rslwm.latents.space import LatentSpace, SpaceConfig, open_adapter
from rslwm.latents.stored import leave_latents
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import (
    Encoded,
    FramesStage,
    OnEpisodes,
    Sizes,
    described,
    on_episodes,
    own_flops,
    saved_bytes,
    training,
)
from rslwm.study.stages.encoder import WEIGHTS, EncoderStage, FeaturesStage
from rslwm.tensors import load_weights, write_tensors
from rslwm.train.latents import NORMALISED, fit_normaliser, train_adapter
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.study.stages.world_model import CheckpointSpace
    from rslwm.study.subjects import Subject, Variant


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

    @property
    def processes(self) -> int:
        return 1 if self.settings.kind == "pca" else self.sharing(self.settings.optim)

    def demand(self, sizes: Sizes) -> Demand:
        spec = self.features.spec
        if self.settings.kind == "pca":  # one covariance
            flops = 2 * sizes.frames * prod(spec.grid) * spec.channels**2
            fitted = Demand(flops=flops, memory=8 * spec.channels**2)
            return self.reading(sizes.frames, fitted)
        one = restoring(self.settings, *self.features.encoder.tokens, self.channels)
        return self.reading(self.settings.optim.samples, training(self.settings.optim, one))

    def run(self, work: Workspace) -> None:
        corpus, features = self.corpus(work), work.open(self.features)
        adapter, trained = train_adapter(
            corpus, features, self.channels, self.settings, self.seed, work.out, self.compute, work.progress
        )
        write_tensors(adapter.state_dict(), work.out / "adapter.safetensors")
        work.write_facts(**trained.facts)

    def open(self, work: Workspace) -> Path:
        return work.out / "adapter.safetensors"


@dataclass(frozen=True, eq=False, kw_only=True)
class KnownSpace(OnEpisodes[LatentSpace]):
    """A space of which a study knows all but the weights before it is there."""

    settings: SpaceConfig

    @property
    def spec(self) -> LatentSpec:
        return described(self.settings).spec

    @property
    def compress_flops(self) -> float:
        """Of all views of a frame through the first half of the adapter; 0 without one."""
        config, native = self.settings, described(self.settings).encoder.spec
        if not config.channels:
            return 0.0
        return config.views * compressing(config.adapter, prod(native.grid), native.channels, config.channels).flops

    @property
    def encode_flops(self) -> float:
        """Of all views of a frame through the encoder."""
        return self.settings.views * own_flops(self.settings)[0]

    def open(self, work: Workspace) -> LatentSpace:
        return LatentSpace.load(work.out / SPACE)


@dataclass(frozen=True, eq=False, kw_only=True)
class SpaceStage(KnownSpace):
    """Put a space together, and fit its normaliser to the training episodes."""

    kind = "space"
    seconds = 3.0

    encoder: EncoderStage
    adapter: AdapterStage | None

    @classmethod
    def of(cls, variant: Variant) -> SpaceStage:
        return cls(
            **on_episodes(variant, framewise=True),
            label=variant.label,
            encoder=variant.pull(EncoderStage),
            adapter=variant.pull(AdapterStage) if variant.entry.channels else None,
            settings=variant.space,
        )

    def demand(self, sizes: Sizes) -> Demand:
        flops = NORMALISED * (self.encode_flops + self.compress_flops)
        return Demand(flops=flops, disk=saved_bytes(self.settings), memory=2 * self.spec.parameters)

    def run(self, work: Workspace) -> None:
        space = LatentSpace(self.settings)
        load_weights(space.encoder, work.folder(self.encoder) / WEIGHTS)
        if self.adapter:
            assert space.adapter is not None
            load_weights(space.adapter, work.open(self.adapter))
        space = space.to(device(self.compute)).eval()
        fit_normaliser(space, self.corpus(work), self.compute)
        space.save(work.out / SPACE)


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentsStage(Encoded):
    """The normalised latents of every frame, made of it or of its native features."""

    kind = "latents"

    space: KnownSpace | CheckpointSpace
    features: FeaturesStage | None
    """Of an adapted space, which is encoded from these."""

    @classmethod
    def of(cls, subject: Subject) -> LatentsStage:
        return cls(
            label=subject.label,
            frames=subject.pull(FramesStage),
            space=subject.pull(SpaceStage),
            features=subject.pull(FeaturesStage) if subject.compressed else None,
            compute=subject.study.compute,
            streamed=subject.streamed,
        )

    @property
    def fitted(self) -> KnownSpace:
        """The space, which a study knows before it is there."""
        assert isinstance(self.space, KnownSpace)
        return self.space

    @property
    def spec(self) -> LatentSpec:
        return self.fitted.spec

    @property
    def flops_per_frame(self) -> float:
        return self.fitted.encode_flops + self.fitted.compress_flops

    def demand(self, sizes: Sizes) -> Demand:
        every = self.fitted.compress_flops if self.features else self.flops_per_frame
        return self.kept(sizes, self.fitted.settings, every)

    def run(self, work: Workspace) -> None:
        features = work.open(self.features) if self.features else None
        space, frames = work.open(self.space).to(device(self.compute)), work.open(self.frames)
        leave_latents(work.out, space, frames, self.compute, work.progress, streamed=self.streamed, features=features)


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


SPACE = "space"
