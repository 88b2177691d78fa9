"""Environments whose places begin and end one by one, as those of Gymnasium do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.latents.views import to_bytes
from rslwm.types import ActionSpec

SEEDS = 2**31
"""How many seeds episodes are drawn from."""


@dataclass(frozen=True)
class Moment:
    """Where one place stands, and what it showed until now. A value, as states are."""

    state: Any
    """The world's own."""
    frames: tuple[np.ndarray, ...]
    """(H, W, 3) uint8 each, since the episode began"""
    instruction: str = ""
    steps: int = 0
    """Actions since the episode began."""
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    """What is true by name (n,), where anything is known to be."""
    success: bool = False


class World(ABC):
    """Where single places begin, and any number of them take a step together."""

    spec: ActionSpec
    shape: tuple[int, int, int]
    """Of a frame (H, W, 3)."""
    judges: bool
    """Whether anybody says what a success is."""
    instructions: Sequence[str] = ()
    """Some that it gives, where they could be of unusual characters or length."""

    @abstractmethod
    def begin(self, draws: Sequence[np.random.Generator], starts: Sequence[Any] | None = None) -> list[Moment]:
        """An episode a generator, at these starts or where the generators say."""

    @abstractmethod
    def step(self, moments: Sequence[Moment], actions: Tensor) -> list[Moment]:
        """What an action each (B, A), normalised, makes of these moments."""

    @abstractmethod
    def fork(self, moments: Sequence[Moment], futures: int, seed: int | None = None) -> list[Moment]:
        """K futures of each moment, those of place b from b * K on: with a ``seed`` chance takes another course in each
        of them, without one it takes the course that it would have taken."""

    def close(self) -> None:  # noqa: B027
        """Free what the world holds."""


class TabletopWorld(World):
    """The simulator; a start is a :class:`rslwm.sim.tabletop.Snapshot`. Without one, an episode of one of these
    families begins that no recording has."""

    judges = True

    def __init__(self, table: SimulatedTabletop, families: Sequence[str], another: bool = False) -> None:
        self.table, self.families, self.another, self.spec = table, tuple(families), another, table.spec
        self.shape = (table.shown, table.shown * len(table.config.cameras), 3)

    def begin(self, draws: Sequence[np.random.Generator], starts: Sequence[Any] | None = None) -> list[Moment]:
        return [*self._moments(self.table.reset(tuple(starts or map(self._start, draws))))]

    def _start(self, draw: np.random.Generator) -> Any:
        family = self.families[int(draw.integers(len(self.families)))]
        return self.table.starts(family, 1, int(draw.integers(SEEDS)), self.another)[0]

    def step(self, moments: Sequence[Moment], actions: Tensor) -> list[Moment]:
        self.table.go(tuple(moment.state for moment in moments))
        return [*self._moments(self.table.step(actions), moments)]

    def _moments(self, seen: Observation, before: Sequence[Moment] = ()) -> Iterator[Moment]:
        assert seen.success is not None
        for b, shown in enumerate(pictures(seen)):
            truth = {name: values[b, -1].numpy() for name, values in seen.truth.items()}
            now = Moment(seen.state[b], (shown[-1],), seen.instructions[b], 0, truth, bool(seen.success[b, -1]))
            yield after(before[b], now) if before else now

    def fork(self, moments: Sequence[Moment], futures: int, seed: int | None = None) -> list[Moment]:
        places = [moment for moment in moments for _ in range(futures)]
        if seed is None:
            return places
        return [replace(m, state=m.state.reseeded(seed * SEEDS + number)) for number, m in enumerate(places)]

    def close(self) -> None:
        self.table.close()


def after(before: Moment, now: Moment) -> Moment:
    """What an action made of a moment, as the next of its episode."""
    return replace(now, frames=(*before.frames, *now.frames), steps=before.steps + 1)


def pictures(seen: Observation) -> np.ndarray:
    """(B, T, H, W, 3) uint8"""
    assert seen.frames is not None
    return to_bytes(seen.frames).numpy()
