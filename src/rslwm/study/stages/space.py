"""A latent space without pixels: encoder, adapter, normaliser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rslwm.compute import device
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.adapter import AdapterStage, compressing
from rslwm.study.stages.base import OnEpisodes, Sizes, described, on_episodes, saved_bytes
from rslwm.study.stages.encoder import WEIGHTS, EncoderStage
from rslwm.tensors import load_weights
from rslwm.train.latents import NORMALISED, fit_normaliser
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.study.graph import Variant

SPACE = "space"


@dataclass(frozen=True, eq=False, kw_only=True)
class SpaceStage(OnEpisodes[LatentSpace]):
    """Put a space together, and fit its normaliser to the training episodes."""

    kind = "space"
    seconds = 3.0

    encoder: EncoderStage
    adapter: AdapterStage | None
    settings: SpaceConfig

    @classmethod
    def of(cls, variant: Variant) -> SpaceStage:
        return cls(
            **on_episodes(variant, framewise=True),
            label=variant.label,
            encoder=variant.pull(EncoderStage),
            adapter=variant.pull(AdapterStage) if variant.entry.channels else None,
            settings=variant.space,
        )

    @property
    def spec(self) -> LatentSpec:
        return described(self.settings).spec

    @property
    def compress_flops(self) -> float:
        """Of all views of a frame through the first half of the adapter; 0 without one."""
        config = self.settings
        if not config.channels:
            return 0.0
        return config.views * compressing(config.adapter, *self.encoder.tokens, config.channels).flops

    @property
    def encode_flops(self) -> float:
        """Of all views of a frame through the encoder."""
        return self.encoder.flops_per_frame

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

    def open(self, work: Workspace) -> LatentSpace:
        return LatentSpace.load(work.out / SPACE)
