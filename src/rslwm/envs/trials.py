"""True success: how often an actor gets a task done in the simulator, from starts that no recording has."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import binomtest
from torch import Tensor

from rslwm.actors.base import Actor
from rslwm.envs.base import live
from rslwm.envs.tabletop import SimulatedTabletop, Snapshots

ACTIONS = 20
"""Actions of a trial."""


@dataclass(frozen=True)
class Successes:
    """How many of so many trials succeeded, with Wilson's interval of 95 %."""

    successes: int
    trials: int

    @property
    def card(self) -> dict[str, float]:
        """Counts, rate and interval."""
        interval = binomtest(self.successes, self.trials).proportion_ci(method="wilson")
        rate = self.successes / self.trials
        shown = {"rate": rate, "low": float(interval.low), "high": float(interval.high)}
        return {"successes": self.successes, "trials": self.trials} | {k: round(v, 4) for k, v in shown.items()}


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
    counts = {
        family: Successes(int(succeeded(actor, table, table.starts(family, trials, seed, another)).sum()), trials)
        for family in families
    }
    return counts | {"all": Successes(sum(c.successes for c in counts.values()), len(families) * trials)}
