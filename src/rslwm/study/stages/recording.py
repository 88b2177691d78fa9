"""What metrics ask of the true world, once for all spaces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rslwm.evals.base import NotAvailable
from rslwm.evals.truth import Recording, Truth
from rslwm.registry import code_of
from rslwm.run.stage import Workspace
from rslwm.study.stages.base import OnEpisodes, on_episodes

if TYPE_CHECKING:
    from rslwm.study.subjects import Subject

ABSENT = "absent"


@dataclass(frozen=True, eq=False, kw_only=True)
class RecordingStage(OnEpisodes[Any]):
    """Act in the true world from held-out moments. What the data can't give is absent and says why, when opened."""

    kind = "recording"
    seconds = 20.0
    spared = True

    recording: Recording[Any]
    seed: int
    """Of the choice of moments and of all chance, the same for every space."""
    left_out: tuple[str, ...]
    """Ids of episodes that a model from elsewhere was trained on."""
    source: str
    """Of the recording's code."""

    @classmethod
    def of_recording(cls, recording: Recording[Any], subject: Subject) -> RecordingStage:
        """The stage of this recording for a subject."""
        return cls(
            **on_episodes(subject),
            label=recording.name,
            recording=recording,
            seed=subject.study.config.evaluation.seed,
            left_out=subject.left_out,
            source=f"{type(recording).__qualname__} {recording.version}{code_of(type(recording))}",
        )

    def run(self, work: Workspace) -> None:
        corpus = self.corpus(work)
        left_out = frozenset(i for i, name in enumerate(corpus.dataset.ids) if name in self.left_out)
        truth = Truth(replace(corpus, left_out=left_out), self.data.world, self.seed)
        try:
            self.recording.make(truth, work.out, work.progress)
        except NotAvailable as why:
            work.write_facts(**{ABSENT: str(why)})

    def open(self, work: Workspace) -> Any:
        """Raises :class:`NotAvailable` where there is none."""
        if why := work.facts(self).get(ABSENT):
            raise NotAvailable(why)
        return self.recording.open(work.out)
