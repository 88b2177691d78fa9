"""The frames of every episode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rslwm.data.config import DataConfig
from rslwm.data.frames import DecodedFrames, build_frame_store
from rslwm.data.store import TensorStore
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import Sizes, StudyStage
from rslwm.study.stages.data import DataStage

if TYPE_CHECKING:
    from rslwm.study.graph import Subject


@dataclass(frozen=True, eq=False, kw_only=True)
class FramesStage(StudyStage[TensorStore]):
    """Decode and resize every frame of every configured camera: once, or whenever it is asked for."""

    kind = "frames"
    seconds = 5.0

    data: DataStage
    settings: DataConfig
    stored: bool

    @classmethod
    def of(cls, subject: Subject) -> FramesStage:
        data, asked = subject.pull(DataStage), subject.study.config.data
        config = replace(data.settings, camera=asked.camera, image_size=asked.image_size)
        return cls(label=data.label, data=data, settings=config, stored=subject.study.stored_frames)

    def demand(self, sizes: Sizes) -> Demand:
        return Demand(disk=self.stored * sizes.frames * self.settings.views * 3 * self.settings.image_size**2)

    def run(self, work: Workspace) -> None:
        if not self.stored:
            return
        dataset = work.open(self.data)
        build_frame_store(dataset, self.settings.camera, self.settings.image_size, work.out, work.progress)

    def open(self, work: Workspace) -> Any:
        if self.stored:
            return TensorStore(work.out)
        return DecodedFrames(work.open(self.data), self.settings.camera, self.settings.image_size)
