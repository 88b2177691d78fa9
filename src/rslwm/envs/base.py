"""Wherever one acts is an environment: B places at once, real, simulated or imagined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.types import ActionSpec

State = TypeVar("State")


class Environment(ABC, Generic[State]):
    """B places that are reset to a state of theirs and stepped together.

    A state is a value: stepping changes none, so that the state of any observation can be gone back to. An interrupted
    step leaves the environment where it was.
    """

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
