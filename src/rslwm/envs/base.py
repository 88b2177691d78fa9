"""Wherever one acts is an environment: B places at once, real, simulated or imagined. One loop plays an actor in it."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.data.config import DataConfig
from rslwm.registry import Registry
from rslwm.types import ActionSpec, DataError

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

    def go(self, state: State) -> None:
        """Go to a state without looking."""
        self.reset(state)

    @abstractmethod
    def step(self, actions: Tensor, following: Tensor | None = None) -> Observation:
        """Do an action (B, A) everywhere. ``following`` (B, A) is the one after it, where that is settled already; a
        world model of outgoing alignment looks at it."""

    @abstractmethod
    def fork(self, state: State, candidates: int) -> State:
        """K futures for every place: place b of B becomes the K places from b * K on."""

    def gathered(self, moments: Sequence[Any]) -> State:
        """The state whose places are these, each as :meth:`rslwm.data.sources.base.Source.truth` gives it. Iterating
        over a state gives them back."""
        raise NotImplementedError

    def starts(self, family: str, count: int, seed: int = 0, another: bool = False) -> State:
        """Where so many episodes of a kind of task begin that no recording has; ``another`` asks for something else
        than the scenes were made for."""
        raise NotImplementedError

    def cameras(self, state: State) -> Tensor:
        """Pinhole matrices (B, V, 3, 4) from metres in the base frame to the pixels of each view as it is shown, right
        and down from its corner; NaN of a camera that doesn't stand still."""
        raise NotImplementedError

    def reseeded(self, state: State, seed: int) -> State:
        """The same state with another course of chance ahead, in every place another one."""
        raise NotImplementedError


def _load_builtin() -> None:
    importlib.import_module("rslwm.envs.tabletop")


ENVIRONMENTS: Registry[type[Environment]] = Registry("environment", "rslwm.environments", _load_builtin)
"""True worlds that data can be recorded in."""


@dataclass(frozen=True)
class Trajectory:
    """What B places showed in F steps.

    ``seen`` is one observation of the F frames after the start: its ``actions`` (B, F, A) led to them, and its
    ``state`` is that of the end.
    """

    start: Observation
    seen: Observation


def live(actor: Actor, environment: Environment[State], state: State) -> Iterator[Observation]:
    """What is seen at the start and after every action, without end.

    Raises:
        DataError: the actor's actions don't mean what the environment takes.
    """
    if actor.spec is not None and actor.spec != environment.spec:
        environment.spec.require(actor.spec, "the environment", "the actor")
        own, taken = (f"{spec.low} to {spec.high}" for spec in (actor.spec, environment.spec))
        what = "the actor's actions are normalised by other bounds than the environment's"
        raise DataError(f"{what}: {own} against {taken}")
    observation = environment.reset(state)
    yield observation
    actor.start(observation)
    while True:
        action = actor.act(observation)
        observation = environment.step(action, actor.following())
        yield observation


def play(actor: Actor, environment: Environment[State], state: State, steps: int) -> Trajectory:
    """Let the actor act so many times, from this state on; raises what :func:`live` raises."""
    observations = live(actor, environment, state)
    start = next(observations)
    seen, end = [], start
    for end in islice(observations, steps):
        seen.append(replace(end, state=None))  # the states of all steps would fill the memory
    return Trajectory(start, replace(_joined(seen), state=end.state))


def _joined(observations: Sequence[Observation]) -> Observation:
    """Observations after each other as one of all their frames, with what a kind of its own adds to them."""
    last = observations[-1]
    shown = [name for name, value in vars(last).items() if isinstance(value, Tensor)]
    joined: dict[str, Any] = {name: torch.cat([getattr(one, name) for one in observations], 1) for name in shown}
    truth = {name: torch.cat([one.truth[name] for one in observations], 1) for name in last.truth}
    return replace(last, **joined, truth=truth)
