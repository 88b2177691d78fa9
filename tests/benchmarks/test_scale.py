"""The simulated cluster: nothing wrong takes what the graph says, and what goes wrong costs what it must."""

import random
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from benchmarks.scale import FIXED, Cluster, Work, disturbed, seconds, simulate

from rslwm.run.stage import Stage

QUIET = Cluster(8, stragglers=0.0, failure_hours=1e12, preemption_hours=0.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Toy(Stage[None]):
    kind = "toy"

    name: str
    after: tuple[Stage[None], ...] = ()


def work(hours: float, **changes: object) -> Work:
    taken = hours * 3600 - FIXED
    return replace(Work("world-model", taken * QUIET.rate * 0.5, 0.5, 0.0, 0.0, 1, True), **changes)


def plan(**hours: float) -> SimpleNamespace:
    """A first stage, and others that need it."""
    first, *others = hours
    head = Toy(label=first, name=first)
    tails = [Toy(label=name, name=name, after=(head,)) for name in others]
    works = {stage: work(hours[stage.label]) for stage in [head, *tails]}
    return SimpleNamespace(targets=tails, works=works)


@pytest.mark.parametrize(("gpus", "hours"), [(1, 14), (2, 9), (8, 7)])
def test_with_nothing_wrong_it_takes_the_chain_or_the_work(gpus: int, hours: float) -> None:
    """2 hours, then 5, 4 and 3 side by side."""
    outcome = simulate(plan(head=2, a=5, b=4, c=3), replace(QUIET, gpus=gpus), 0)
    assert outcome.seconds == pytest.approx(hours * 3600)
    assert outcome.chain == pytest.approx(7 * 3600)
    assert outcome.held == pytest.approx(14 * 3600)
    assert outcome.lost == 0


def test_processes_share_the_computing_and_the_file_system_sets_a_limit() -> None:
    assert seconds(work(8, processes=4), QUIET) == pytest.approx((8 * 3600 - FIXED) / 4 + FIXED)
    moved = work(1, moved=2 * 3600 * QUIET.node_bandwidth)
    assert seconds(moved, QUIET) == pytest.approx(2 * 3600 + FIXED)
    assert seconds(moved, QUIET, busy=100) == pytest.approx(20 * 3600 + FIXED)


def test_preemption_costs_less_where_there_are_checkpoints() -> None:
    cluster = replace(QUIET, preemption_hours=5.0)
    lost = {}
    for kind in ("world-model", "features"):
        draws = [disturbed(10 * 3600, work(10, kind=kind), cluster, random.Random(seed)) for seed in range(200)]
        assert all(elapsed == pytest.approx(10 * 3600 + wasted) for elapsed, wasted in draws)
        lost[kind] = sum(wasted for _, wasted in draws) / len(draws)
    assert lost["world-model"] == pytest.approx(2 * (300 + cluster.restart_seconds), rel=0.3)
    assert lost["features"] > 10 * lost["world-model"]
