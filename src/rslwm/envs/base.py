"""Wherever one acts is an environment: B places at once, real, simulated or imagined."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar

from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.data.config import DataConfig
from rslwm.registry import Registry
from rslwm.types import ActionSpec

State = TypeVar("State")


class Environment(ABC, Generic[State]):
    """B places that are reset to a state of theirs and stepped together.

    A state is a value: stepping changes none, so that the state of any observation can be gone back to. An interrupted
    step leaves the environment where it was.
    """

    @classmethod
    def of_data(cls, config: DataConfig, frames: bool = True) -> Self:
        """The world that data of this configuration were recorded in, showing (``frames``) and taking what their clips
        hold. Only of those that a data source names as its :attr:`rslwm.data.sources.base.Source.environment`."""
        raise NotImplementedError

    @property
    def random(self) -> bool:
        """Whether the same actions from the same state lead to different ends, see :meth:`reseeded`."""
        return False

    @property
    @abstractmethod
    def spec(self) -> ActionSpec:
        """What actions mean here; they are given normalised, with its bounds at -1 and 1."""

    @abstractmethod
    def reset(self, state: State) -> Observation:
        """Go to a state, and see what is there."""

    @abstractmethod
    def step(self, actions: Tensor, following: Tensor | None = None) -> Observation:
        """Do an action (B, A) everywhere. ``following`` (B, A) is the one after it, where that is settled already; a
        world model of outgoing alignment looks at it."""

    @abstractmethod
    def fork(self, state: State, candidates: int) -> State:
        """K futures for every place: place b of B becomes the K places from b * K on."""

    def gathered(self, moments: Sequence[Any]) -> State:
        """The state whose places are these, each as :meth:`rslwm.data.sources.base.Source.truth` gives it."""
        raise NotImplementedError

    def reseeded(self, state: State, seed: int) -> State:
        """The same state with another course of chance ahead, in every place another one."""
        raise NotImplementedError


def _load_builtin() -> None:
    importlib.import_module("rslwm.envs.tabletop")


ENVIRONMENTS: Registry[type[Environment]] = Registry("environment", "rslwm.environments", _load_builtin)
"""True worlds that data can be recorded in."""
