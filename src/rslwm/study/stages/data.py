"""The episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rslwm.data.check import require_sound
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources.opening import located, open_source
from rslwm.run.stage import Workspace
from rslwm.study.stages.base import StudyStage

if TYPE_CHECKING:
    from rslwm.study.graph import Subject


@dataclass(frozen=True, eq=False, kw_only=True)
class DataStage(StudyStage[EpisodeDataset]):
    """Record, import or just find the episodes, and refuse faulty ones; the facts say where they are."""

    kind = "data"

    settings: DataConfig
    content: str
    """What determines the episodes beside their configuration, see :meth:`rslwm.data.sources.base.Source.key`."""

    @classmethod
    def of(cls, subject: Subject) -> DataStage:
        source = subject.study.source
        return cls(label=source.config.uri, settings=source.recorded, content=source.key())

    @property
    def exclusive(self) -> bool:
        return open_source(self.settings).exclusive

    @property
    def seconds(self) -> float:
        return open_source(self.settings).seconds

    def run(self, work: Workspace) -> None:
        source = open_source(self.settings)
        dataset = source.open(work.out, work.progress)
        require_sound(dataset)
        work.write_facts(
            **source.location(dataset, work.out),
            uri=self.settings.uri,
            fingerprint=dataset.fingerprint,
            episodes=len(dataset),
            frames=int(dataset.lengths.sum()),
            labelled=sum(label is not None for label in dataset.success),
            successes=sum(label is True for label in dataset.success),
            cameras=dataset.cameras,
            instructions=len(set(dataset.instructions)),
            left_out=dataset.left_out,
        )

    def open(self, work: Workspace) -> EpisodeDataset:
        return located(work.out, self.settings)
