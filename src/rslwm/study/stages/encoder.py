"""A native encoder, trained or frozen and looked at, and what it makes of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import device, seeded
from rslwm.flops import Pass
from rslwm.latents.base import Encoder
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.latents.stored import leave_latents
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import Encoded, FramesStage, OnEpisodes, Sizes, described, on_episodes, own_flops, training
from rslwm.tensors import load_weights, write_tensors
from rslwm.train.latents import train_encoder
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.study.subjects import Perturbed, Variant


WEIGHTS = "encoder.safetensors"
LOOK = 256
"""Frames that a frozen encoder is looked at with."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EncoderStage(OnEpisodes[LatentSpace]):
    """Train an encoder, or look at a frozen one. It opens as its native space, whose normaliser isn't fitted."""

    kind = "encoder"

    teacher: FeaturesStage | None
    """Features that its training reads."""
    space: SpaceConfig
    seed: int
    source: str
    """Of its code and its weights."""

    @classmethod
    def of(cls, variant: Variant) -> EncoderStage:
        native, encoder = variant.native, variant.entry.encoder
        return cls(
            **on_episodes(variant, framewise=True),
            label=native.label,
            teacher=variant.teacher.pull(FeaturesStage) if variant.teacher else None,
            space=native.space,
            seed=variant.seed if encoder.seeded else 0,
            source=variant.entry.source() + native.described.spec.revision,
        )

    @property
    def flops_per_frame(self) -> float:
        """Of encoding all views."""
        return self.space.views * own_flops(self.space)[0]

    @property
    def tokens(self) -> tuple[int, int]:
        """Number and width of one view's."""
        spec = described(self.space).encoder.spec
        return prod(spec.grid), spec.channels

    @property
    def seconds(self) -> float:
        return self.space.encoder.optim.steps * 0.2

    @property
    def processes(self) -> int:
        return self.sharing(self.space.encoder.optim) if described(self.space).encoder.trainable else 1

    def demand(self, sizes: Sizes) -> Demand:
        encoder, optim = described(self.space).encoder, self.space.encoder.optim
        parameters = encoder.spec.parameters
        if not encoder.trainable:
            return Demand(flops=LOOK * self.flops_per_frame, memory=2 * parameters)
        return self.reading(optim.samples, training(optim, Pass(own_flops(self.space)[0], parameters, 0.0)))

    def run(self, work: Workspace) -> None:
        features = work.open(self.teacher) if self.teacher else None
        # By the name alone: where a plug-in's file lies must not change its initial weights.
        with seeded(self.seed, f"encoder weights {Path(self.space.reference).name}"):
            encoder = LatentSpace(self.space).encoder
        trained = train_encoder(encoder, self.corpus(work), self.seed, work.out, self.compute, work.progress, features)
        write_tensors(encoder.state_dict(), work.out / WEIGHTS)
        work.write_facts(parameters=encoder.spec.parameters, flops_per_frame=self._counted_flops(encoder))
        if trained:
            work.write_facts(frames_seen=self.space.encoder.optim.samples, **trained.facts)

    def _counted_flops(self, encoder: Encoder) -> float:
        """Of all views of a frame."""
        size = self.space.image_size
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder.encode(torch.zeros(self.space.views, 1, size, size, 3, device=device(self.compute)))
        return float(counter.get_total_flops())

    def open(self, work: Workspace) -> LatentSpace:
        native = LatentSpace(self.space)
        load_weights(native.encoder, work.out / WEIGHTS)
        return native.to(device(self.compute)).eval()


@dataclass(frozen=True, eq=False, kw_only=True)
class FeaturesStage(Encoded):
    """What an encoder makes of every frame, not normalised."""

    kind = "features"

    encoder: EncoderStage

    @classmethod
    def of(cls, variant: Variant | Perturbed) -> FeaturesStage:
        native, frames = variant.native, variant.pull(FramesStage)
        encoder, compute = native.pull(EncoderStage), variant.study.compute
        return cls(label=native.label, frames=frames, encoder=encoder, compute=compute, streamed=native.streamed)

    @property
    def spec(self) -> LatentSpec:
        return described(self.encoder.space).spec

    @property
    def flops_per_frame(self) -> float:
        return self.encoder.flops_per_frame

    def demand(self, sizes: Sizes) -> Demand:
        return self.kept(sizes, self.encoder.space, self.flops_per_frame)

    def run(self, work: Workspace) -> None:
        native, frames = work.open(self.encoder), work.open(self.frames)
        leave_latents(work.out, native, frames, self.compute, work.progress, streamed=self.streamed)
