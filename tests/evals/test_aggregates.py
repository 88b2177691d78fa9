import numpy as np
import pytest

from rslwm.evals.aggregates import AGGREGATES

NAMES = ["mean", "ratio", "pearson", "r2", "balanced_accuracy", "auc"]


def plain(aggregate: str, value: np.ndarray, target: np.ndarray) -> float:
    """Textbook definitions, row by row."""
    if aggregate == "mean":
        return value.mean()
    if aggregate == "ratio":
        return value.sum() / target.sum()
    if aggregate == "pearson":
        return np.corrcoef(value, target)[0, 1]
    if aggregate == "r2":
        return 1 - ((value - target) ** 2).sum() / ((target - target.mean()) ** 2).sum()
    positive, negative = value[target > 0.5], value[target <= 0.5]
    if aggregate == "balanced_accuracy":
        return ((positive >= 0.5).mean() + (negative < 0.5).mean()) / 2
    return np.mean([(p > n) + (p == n) / 2 for p in positive for n in negative])


def sample(aggregate: str, rng: np.random.Generator, n: int = 240):
    group, unit = rng.integers(0, 3, n), rng.integers(0, 8, n)
    target = rng.normal(50, 2, n) if aggregate in ("ratio", "pearson", "r2") else (rng.random(n) < 0.4).astype(float)
    value = target + rng.normal(0, 0.7, n)
    if aggregate == "auc":
        value = value.round(1)  # so that there are ties
    return value, target, group, unit


@pytest.mark.parametrize("aggregate", NAMES)
def test_weights_equal_repeated_rows(aggregate):
    rng = np.random.default_rng(0)
    value, target, group, unit = sample(aggregate, rng)
    weights = rng.multinomial(8, np.full(8, 1 / 8), size=5).astype(float)
    result = AGGREGATES.get(aggregate).evaluate(value, target, group, unit, weights)
    for n, g in np.ndindex(5, 3):
        repeat = np.repeat(np.arange(len(value)), weights[n, unit].astype(int))
        repeat = repeat[group[repeat] == g]
        assert result[n, g] == pytest.approx(plain(aggregate, value[repeat], target[repeat]), abs=1e-9)


def test_a_constant_prediction_knows_nothing():
    target, zeros = np.array([1.0, 2.0, 5.0]), np.zeros(3, int)
    constant = np.full(3, 0.1)
    assert AGGREGATES.get("pearson").evaluate(constant, target, zeros, np.arange(3), np.ones((1, 3)))[0, 0] == 0


@pytest.mark.parametrize("aggregate", ["pearson", "r2"])
def test_a_constant_target_is_undefined(aggregate):
    target, zeros = np.full(3, 0.1), np.zeros(3, int)
    prediction = np.array([1.0, 2.0, 5.0])
    assert np.isnan(AGGREGATES.get(aggregate).evaluate(prediction, target, zeros, np.arange(3), np.ones((1, 3)))[0, 0])


@pytest.mark.parametrize("aggregate", ["auc", "balanced_accuracy"])
def test_one_class_only_is_undefined(aggregate):
    value, zeros = np.array([0.1, 0.9]), np.zeros(2, int)
    assert np.isnan(AGGREGATES.get(aggregate).evaluate(value, np.ones(2), zeros, np.arange(2), np.ones((1, 2)))[0, 0])


def test_predicting_worse_than_the_mean_is_negative():
    target, zeros = np.array([0.0, 1.0]), np.zeros(2, int)
    assert AGGREGATES.get("r2").evaluate(1 - target, target, zeros, np.arange(2), np.ones((1, 2)))[
        0, 0
    ] == pytest.approx(-3)


@pytest.mark.parametrize("aggregate", ["pearson", "r2"])
def test_a_large_common_offset_does_not_matter(aggregate):
    rng = np.random.default_rng(1)
    target = rng.normal(size=50)
    value, zeros, unit = target + rng.normal(size=50), np.zeros(50, int), np.arange(50)
    near, far = (
        AGGREGATES.get(aggregate).evaluate(value + c, target + c, zeros, unit, np.ones((1, 50)))[0, 0] for c in (0, 1e7)
    )
    assert far == pytest.approx(near, abs=1e-6)
