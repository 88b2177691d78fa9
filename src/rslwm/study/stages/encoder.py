"""A native encoder: trained, or frozen and looked at."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import device, seeded
from rslwm.flops import Pass
from rslwm.latents.base import Encoder
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import OnEpisodes, Sizes, described, on_episodes, own_flops, reading, training
from rslwm.study.stages.features import FeaturesStage
from rslwm.tensors import load_weights, write_tensors
from rslwm.train.latents import train_encoder

if TYPE_CHECKING:
    from rslwm.study.graph import Variant

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
            teacher=variant.taught_by(encoder.teacher).pull(FeaturesStage) if encoder.teacher else None,
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

    def demand(self, sizes: Sizes) -> Demand:
        encoder, optim = described(self.space).encoder, self.space.encoder.optim
        parameters = encoder.spec.parameters
        if not encoder.trainable:
            return Demand(flops=LOOK * self.flops_per_frame, memory=2 * parameters)
        return reading(self, optim.samples, training(optim, Pass(own_flops(self.space)[0], parameters, 0.0)))

    def run(self, work: Workspace) -> None:
        features = work.open(self.teacher) if self.teacher else None
        # By the name alone: where a plug-in's file lies must not change its initial weights.
        with seeded(self.seed, f"encoder weights {Path(self.space.reference).name}"):
            encoder = LatentSpace(self.space).encoder
        trained = train_encoder(encoder, self.corpus(work), self.seed, work.out, self.compute, work.progress, features)
        write_tensors(encoder.state_dict(), work.out / WEIGHTS)
        facts: dict[str, Any] = {
            "parameters": encoder.spec.parameters,
            "flops_per_frame": self._flops_per_frame(encoder),
        }
        if trained:
            facts |= {"frames_seen": self.space.encoder.optim.samples, **trained.facts}
        work.write_facts(**facts)

    def _flops_per_frame(self, encoder: Encoder) -> float:
        size = self.space.image_size
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder.encode(torch.zeros(self.space.views, 1, size, size, 3, device=device(self.compute)))
        return float(counter.get_total_flops())

    def open(self, work: Workspace) -> LatentSpace:
        native = LatentSpace(self.space)
        load_weights(native.encoder, work.out / WEIGHTS)
        return native.to(device(self.compute)).eval()
