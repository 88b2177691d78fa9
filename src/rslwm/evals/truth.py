"""The true world behind recorded episodes, for metrics that intervene: a simulator can go back and do otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import Tensor

from rslwm.data.corpus import Corpus
from rslwm.data.sources.base import Source
from rslwm.envs.base import ENVIRONMENTS, Environment
from rslwm.evals.base import NotAvailable
from rslwm.evals.windows import held_out
from rslwm.types import Progress, silent

T = TypeVar("T")


@dataclass(frozen=True)
class Truth:
    """The world that episodes were recorded in. ``seed`` is the evaluation's."""

    corpus: Corpus
    source: Source | None
    seed: int

    @cached_property
    def environment(self) -> Environment[Any]:
        """The world itself, which takes a clip's composed actions.

        Raises:
            NotAvailable: the data are a recording, or their actions mean something else than the world's.
        """
        return self._environment(frames=True)

    @cached_property
    def blind(self) -> Environment[Any]:
        """The same without frames, which saves a third of the time."""
        return self._environment(frames=False)

    def _environment(self, frames: bool) -> Environment[Any]:
        if self.source is None or not self.source.environment:
            raise NotAvailable("the data are a recording: what would have happened otherwise nobody knows")
        environment = ENVIRONMENTS.get(self.source.environment).of_data(self.corpus.config, frames)
        if environment.spec != self.corpus.action_spec:
            raise NotAvailable("a clip's action (data.actions, or the model's spec) isn't one that the simulator takes")
        return environment

    def state(self, moments: np.ndarray) -> Any:
        """The environment's state at recorded moments (N, 2) of (episode, step).

        Raises:
            NotAvailable: see :attr:`environment`.
        """
        environment, source, dataset = self.blind, self.source, self.corpus.dataset
        assert source is not None
        once, which = np.unique(moments, axis=0, return_inverse=True)
        found = [source.truth(dataset, int(e), int(t)) for e, t in once]
        return environment.gathered([found[i] for i in which.reshape(-1)])

    def course(self, episode: int) -> list[Any]:
        """The moments of all recorded steps of an episode, each to be gathered to a state; raises like
        :meth:`state`."""
        _, source = self.blind, self.source
        assert source is not None
        return source.course(self.corpus.dataset, episode)

    def windows(self, frames: int, count: int, concern: str) -> np.ndarray:
        """See :func:`rslwm.evals.windows.held_out`: for equal arguments those of :meth:`Evaluation.windows`."""
        return held_out(self.corpus, frames, count, self.seed, concern)

    def actions(self, windows: np.ndarray, frames: int) -> Tensor:
        """Normalised actions (N, frames - 1, A) of windows (N, 2)."""
        return self.corpus.clips(self.corpus.frames, frames).batch(windows).actions


@dataclass(frozen=True)
class Recording(Generic[T]):
    """What the true world is asked once a study, for all its spaces. A subclass beside its metric adds settings as
    fields; equal ones are made once. It opens as a ``T``."""

    version: ClassVar[int] = 1
    """Of what is recorded; raise it when that changes."""

    @property
    def name(self) -> str:
        """For people."""
        raise NotImplementedError

    def make(self, truth: Truth, out: Path, progress: Progress = silent) -> None:
        """Write it into a folder.

        Raises:
            NotAvailable: there is no such world.
        """
        raise NotImplementedError

    def open(self, folder: Path) -> T:
        """Inverse of :meth:`make`."""
        raise NotImplementedError
