"""Native features of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rslwm.compute import ComputeConfig
from rslwm.data.store import Readable
from rslwm.latents.stored import leave_latents, open_latents
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import Sizes, StudyStage, described, saved_bytes
from rslwm.study.stages.frames import FramesStage
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.study.graph import Variant
    from rslwm.study.stages.encoder import EncoderStage


@dataclass(frozen=True, eq=False, kw_only=True)
class FeaturesStage(StudyStage[Readable]):
    """What an encoder makes of every frame, not normalised: stored or, where it is too wide, encoded when read."""

    kind = "features"
    seconds = 15.0

    frames: FramesStage
    encoder: EncoderStage
    compute: ComputeConfig
    streamed: bool

    @classmethod
    def of(cls, variant: Variant) -> FeaturesStage:
        from rslwm.study.stages.encoder import EncoderStage

        native = variant.native
        return cls(
            label=native.label,
            frames=variant.pull(FramesStage),
            encoder=native.pull(EncoderStage),
            compute=variant.study.compute,
            streamed=native.streamed,
        )

    @property
    def spec(self) -> LatentSpec:
        return described(self.encoder.space).spec

    @property
    def flops_per_frame(self) -> float:
        return self.encoder.flops_per_frame

    def demand(self, sizes: Sizes) -> Demand:
        disk = saved_bytes(self.encoder.space)
        if self.streamed:
            return Demand(disk=disk)
        disk += sizes.frames * self.spec.bytes_per_frame
        return Demand(sizes.frames * self.flops_per_frame, disk, 2 * self.spec.parameters)

    def run(self, work: Workspace) -> None:
        native, frames = work.open(self.encoder), work.open(self.frames)
        leave_latents(work.out, native, frames, self.compute, work.progress, streamed=self.streamed)

    def open(self, work: Workspace) -> Readable:
        return open_latents(work.out, work.open(self.frames), self.compute)
