"""A space against itself, on rows whose trainings are known."""

import numpy as np
import pytest
from benchmarks.same_against_same import FIRST, SECOND, halves

from planted import info, rows
from rslwm.types import DataError
from rslwm.verdict.decide import VerdictConfig, decide


def trained(luck):
    """Rows of one space whose trainings are off by ``luck`` (S,)."""
    rng = np.random.default_rng(0)
    value = 0.5 + np.asarray(luck)[:, None] + rng.normal(0, 0.1, (1, 60)) + rng.normal(0, 0.05, (len(luck), 60))
    units = np.array([f"e{i:03d}" for i in range(60)])
    return rows(metric="skill", latent="a", family="semantic", seed=np.arange(3, 3 + len(luck))[:, None], unit=units,
                value=value)  # fmt: skip


@pytest.mark.parametrize(("luck", "winner"), [([0.02, -0.02, -0.01, 0.01], ""), ([0.21, 0.2, 0.0, 0.01], FIRST)])
def test_only_halves_that_differ_by_more_than_trainings_do_are_told_apart(luck, winner):
    verdict = decide(halves(trained(luck), "a"), {"skill": info("skill")}, VerdictConfig(resamples=300))
    (axis,) = [axis for name, axis in verdict.axes.items() if name != "overall"]
    assert axis.winner == winner


def test_halves_have_as_many_trainings_each_and_an_odd_one_is_left_out():
    found = halves(trained([0.0] * 5), "a")
    seeds = {name: found.where(found["latent"] == name).distinct("seed") for name in (FIRST, SECOND)}
    assert seeds == {FIRST: (0, 1), SECOND: (0, 1)}


def test_what_was_trained_once_is_no_pair():
    with pytest.raises(DataError, match="trained once"):
        halves(trained([0.0]), "a")
