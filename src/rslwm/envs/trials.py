"""True success: how often an actor gets a task done in the simulator, from starts that no recording has."""

from __future__ import annotations

from dataclasses import dataclass

import scipy
from torch import Tensor

from rslwm.actors.base import Actor
from rslwm.envs.base import live
from rslwm.envs.tabletop import SimulatedTabletop, Snapshots

ACTIONS = 20
"""Actions of a trial."""


@dataclass(frozen=True)
class Successes:
    """Which of some trials succeeded."""

    outcomes: tuple[bool, ...]

    @property
    def rate(self) -> float:
        return sum(self.outcomes) / len(self.outcomes)

    @property
    def card(self) -> dict[str, float | str]:
        """Counts, rate, Wilson's interval of 95 %, and the outcome of every trial."""
        successes, trials = sum(self.outcomes), len(self.outcomes)
        interval = scipy.stats.binomtest(successes, trials).proportion_ci(method="wilson")
        shown = {"rate": self.rate, "low": float(interval.low), "high": float(interval.high)}
        outcomes = "".join("1" if outcome else "0" for outcome in self.outcomes)
        rounded = {name: round(value, 4) for name, value in shown.items()}
        return {"successes": successes, "trials": trials, **rounded, "outcomes": outcomes}


def succeeded(actor: Actor, table: SimulatedTabletop, starts: Snapshots, actions: int = ACTIONS) -> Tensor:
    """(B,) bool, whether each place's task was done at any time in so many actions."""
    observations = live(actor, table, starts)
    done = next(observations).success
    assert done is not None
    ever = done.any(1)
    for _ in range(actions):
        done = next(observations).success
        assert done is not None
        ever |= done.any(1)
    return ever


def true_success(
    actor: Actor, table: SimulatedTabletop, families: tuple[str, ...], trials: int, seed: int = 0, another: bool = False
) -> dict[str, Successes]:
    """Of every family so many trials, and ``all`` of them together; starts are those of
    :meth:`rslwm.envs.tabletop.SimulatedTabletop.starts`."""
    counts = {}
    for family in families:
        done = succeeded(actor, table, table.starts(family, trials, seed, another))
        counts[family] = Successes(tuple(done.tolist()))
    return counts | {"all": Successes(tuple(done for count in counts.values() for done in count.outcomes))}
