"""Who says whether a task was done: a judge looks at what was played, real or imagined, and gives verdicts."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor

from rslwm.evals.rates import Estimate, Rate, kappa, newcombe
from rslwm.registry import Registry
from rslwm.sim.tasks import Task
from rslwm.types import DataError


@dataclass(frozen=True)
class Footage:
    """What B trials showed, from their start to their end; a judge says which part of it it looks at.

    Raises:
        DataError: the parts are of different numbers of trials.
    """

    instructions: tuple[str, ...]
    """What was to be done."""
    frames: np.ndarray | None = None
    """(B, T, H, W, 3) uint8"""
    latents: Tensor | None = None
    """(B, T, h, w, C)"""
    tasks: tuple[Task, ...] = ()
    """The simulator's, where it is one of its tasks."""

    def __post_init__(self) -> None:
        for name in ("frames", "latents", "tasks"):
            part = getattr(self, name)
            if part is not None and (name != "tasks" or part) and len(part) != len(self):
                raise DataError(f"Footage.{name}: {len(part)} trials, but {len(self)} instructions; give one each")
        if self.frames is not None and (self.frames.dtype != np.uint8 or self.frames.ndim != 5):
            shape = f"{self.frames.shape} of {self.frames.dtype}"
            raise DataError(f"Footage.frames: {shape}; a judge looks at (B, T, H, W, 3) of uint8")

    def __len__(self) -> int:
        return len(self.instructions)


@dataclass(frozen=True)
class Verdicts:
    """Of B trials. A trial that the judge gave no usable answer on is unjudged: it is neither a success nor a failure.

    ``success`` is False where nothing was judged; rates are of the judged trials.
    """

    score: np.ndarray
    """(B,) in [0, 1], NaN where unjudged; finer than ``success`` where the judge says how sure it is"""
    success: np.ndarray
    """(B,) bool"""
    progress: np.ndarray
    """(B,) in [0, 1], how much of the way was ever gone; NaN where the judge doesn't say"""
    raw: tuple[str, ...] = ()
    """What the judge answered, word for word, or why it didn't; empty where it doesn't speak."""

    @property
    def judged(self) -> np.ndarray:
        """(B,) bool"""
        return np.isfinite(self.score)

    @property
    def unjudged(self) -> int:
        """How many trials weren't."""
        return int((~self.judged).sum())

    @property
    def outcomes(self) -> np.ndarray:
        """(B,) 1 where it is a success and 0 where it is a failure, NaN where unjudged."""
        return np.where(self.judged, self.success.astype(float), np.nan)

    @property
    def rate(self) -> Rate:
        """Successes among the judged trials."""
        return Rate.of(self.success[self.judged])


class Judge(ABC):
    """Says of trials whether their task was done. It annotates: where the truth is known, that decides."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For people and tables."""

    @abstractmethod
    def judge(self, footage: Footage) -> Verdicts:
        """Verdicts on every trial.

        Raises:
            DataError: the footage lacks what this judge looks at.
        """


def _load_builtin() -> None:
    for module in ("rule", "seen", "probe", "vision_language"):
        importlib.import_module(f"rslwm.evals.judges.{module}")


JUDGES: Registry[type[Judge]] = Registry("judge", "rslwm.judges", _load_builtin)


@dataclass(frozen=True)
class Calibration:
    """How a judge fares on trials whose truth is known. Its rates are of the judged ones."""

    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int
    unjudged: int = 0

    @classmethod
    def of(cls, verdicts: Verdicts, truth: Any) -> Calibration:
        """Against the true outcomes (B,) bool. Raises DataError: there aren't as many as verdicts."""
        truth, says = np.asarray(truth, bool), verdicts.success
        if truth.shape != says.shape:
            raise DataError(f"Calibration: {truth.shape} labels of {says.shape} verdicts; give one each")

        def count(done: bool, said: bool) -> int:
            return int((verdicts.judged & (truth == done) & (says == said)).sum())

        counts = count(True, True), count(True, False), count(False, True), count(False, False)
        return cls(*counts, unjudged=verdicts.unjudged)

    @property
    def sensitivity(self) -> Rate:
        """Of the true successes, those that it sees."""
        return Rate(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> Rate:
        """Of the true failures, those that it sees."""
        return Rate(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def skill(self) -> Estimate:
        """Sensitivity + specificity - 1: 1 of a judge without error, 0 of one that might as well toss a coin."""
        return newcombe(self.sensitivity, Rate(self.false_positives, self.false_positives + self.true_negatives))

    def line(self, name: str) -> str:
        """For people."""
        seen = f"sees {self.sensitivity} of the successes and {self.specificity} of the failures"
        silent = f"; {self.unjudged} trials are unjudged" if self.unjudged else ""
        return f"{name} {seen}{silent}."


@dataclass(frozen=True)
class Concord:
    """How two judges agree on the trials that both judged; 1 by kappa is always, 0 is as often as by chance."""

    kappa: float
    alike: Rate


def concord(verdicts: Mapping[str, Verdicts]) -> dict[tuple[str, str], Concord]:
    """Of every two judges of the same trials, by name. Pairs without a trial that both judged are missing."""
    found = {}
    for (a, one), (b, other) in combinations(verdicts.items(), 2):
        both = one.judged & other.judged
        if both.any():
            x, y = one.success[both], other.success[both]
            found[a, b] = Concord(kappa(x, y), Rate.of(x == y))
    return found


def consensus(verdicts: Sequence[Verdicts]) -> Verdicts:
    """The verdict of several judges together: success where each of them says so (the paper, section 6.2 of its
    protocol: both give 0.5 or more), unjudged where one of them didn't judge."""
    score = np.stack([v.score for v in verdicts]).min(0)  # NaN where one is
    success: np.ndarray = np.all([v.success for v in verdicts], axis=0)
    progress = np.stack([v.progress for v in verdicts]).min(0)
    return Verdicts(score, success, progress)
