"""Normalised latents of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rslwm.compute import ComputeConfig, device
from rslwm.data.store import Readable
from rslwm.latents.stored import leave_latents, open_latents
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import Sizes, StudyStage, reading, saved_bytes
from rslwm.study.stages.features import FeaturesStage
from rslwm.study.stages.frames import FramesStage
from rslwm.study.stages.space import SpaceStage
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.study.graph import Subject
    from rslwm.study.stages.checkpoint import CheckpointSpace


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentsStage(StudyStage[Readable]):
    """Encode every frame, or its native features: stored or, where latents are too wide, encoded when they are read."""

    kind = "latents"
    seconds = 15.0

    frames: FramesStage
    space: SpaceStage | CheckpointSpace
    features: FeaturesStage | None
    """Of an adapted space, which is encoded from these."""
    compute: ComputeConfig
    streamed: bool

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
    def fitted(self) -> SpaceStage:
        """The space, which a study knows before it is there."""
        assert isinstance(self.space, SpaceStage)
        return self.space

    @property
    def spec(self) -> LatentSpec:
        return self.fitted.spec

    @property
    def flops_per_frame(self) -> float:
        """Of encoding a frame anew."""
        return self.fitted.encode_flops + self.fitted.compress_flops

    def demand(self, sizes: Sizes) -> Demand:
        disk = saved_bytes(self.fitted.settings)
        if self.streamed:
            return Demand(disk=disk)
        every = self.fitted.compress_flops or self.fitted.encode_flops  # an adapted space is made of the features
        disk += sizes.frames * self.spec.bytes_per_frame
        return reading(self, sizes.frames, Demand(sizes.frames * every, disk, 2 * self.spec.parameters))

    def run(self, work: Workspace) -> None:
        features = work.open(self.features) if self.features else None
        space, frames = work.open(self.space).to(device(self.compute)), work.open(self.frames)
        leave_latents(work.out, space, frames, self.compute, work.progress, streamed=self.streamed, features=features)

    def open(self, work: Workspace) -> Readable:
        return open_latents(work.out, work.open(self.frames), self.compute)
