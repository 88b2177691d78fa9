"""What a metric tells of another one, over spaces that were trained several times."""

import numpy as np
import pytest

from planted import info, join, rows
from rslwm.verdict.predictors import predictions

SKILL = {"a": 0.1, "b": 0.3, "c": 0.5, "d": 0.7, "e": 0.9}


def study(name, skill, noise=0.0, seed=0, sign=1):
    rng = np.random.default_rng(seed)
    value = np.array([*skill.values()])[:, None, None] + rng.normal(0, 1, (len(skill), 3, 1)) * noise
    return rows(
        metric=name,
        latent=np.array([*skill])[:, None, None],
        seed=np.arange(3)[None, :, None],
        unit=np.array(["x", "y"])[None, None, :],
        value=sign * value,
    )


METRICS = {
    "cem_error": info("cem_error", higher_is_better=False),
    "exact": info("exact"),
    "opposite": info("opposite"),
    "nothing": info("nothing"),
}
ROWS = join(
    study("cem_error", SKILL, noise=0.01, sign=-1),
    study("exact", SKILL),
    study("opposite", SKILL, sign=-1),
    study("nothing", dict.fromkeys(SKILL, 0.0), noise=1.0, seed=3),
)


def test_the_best_predictor_comes_first_with_its_sign():
    found = {p.metric: p for p in predictions(ROWS, METRICS)}
    assert next(iter(found)) == "exact"
    assert found["exact"].rho > 0.95
    assert found["opposite"].rho == pytest.approx(-found["exact"].rho)
    assert (found["exact"].points, found["exact"].spaces) == (15, 5)


def test_what_hangs_on_one_space_is_seen_to():
    """Four spaces the wrong way round, and one that is best in both."""
    wanted = {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1, "e": 5.0}
    given = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4, "e": 5.0}
    table = join(study("cem_error", wanted, sign=-1), study("exact", given))
    (found,) = predictions(table, {name: METRICS[name] for name in ("cem_error", "exact")})
    assert found.rho == pytest.approx(0)
    assert found.lowest == pytest.approx(-1)


def test_a_metric_of_no_spread_is_left_out():
    table = join(ROWS, study("constant", dict.fromkeys(SKILL, 1.0)))
    assert "constant" not in {p.metric for p in predictions(table, METRICS | {"constant": info("constant")})}


def test_three_spaces_tell_nothing():
    table = ROWS.where(np.isin(ROWS["latent"], ["a", "b", "c"]))
    assert predictions(table, METRICS) == ()


def test_a_variant_of_the_target_on_its_own_rung_predicts_nothing():
    metrics = METRICS | {
        "cem_error": info("cem_error", higher_is_better=False, rung=4),
        "exact": info("exact", rung=4),
        "opposite": info("opposite", rung=3),
    }
    assert {p.metric for p in predictions(ROWS, metrics)} == {"opposite", "nothing"}
