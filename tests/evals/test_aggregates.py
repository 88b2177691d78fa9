import numpy as np
import pytest

from rslwm.evals.aggregates import AGGREGATES

NAMES = ["mean", "ratio", "pearson", "r2", "balanced_accuracy", "auc", "average_precision"]


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
    if aggregate == "average_precision":  # the mean over positives of the precision among all that score as high
        return np.mean([(positive >= p).sum() / (value >= p).sum() for p in positive])
    return np.mean([(p > n) + (p == n) / 2 for p in positive for n in negative])


def sample(aggregate: str, rng: np.random.Generator, n: int = 240):
    group, unit = rng.integers(0, 3, n), rng.integers(0, 8, n)
    target = rng.normal(50, 2, n) if aggregate in ("ratio", "pearson", "r2") else (rng.random(n) < 0.4).astype(float)
    value = target + rng.normal(0, 0.7, n)
    if aggregate in ("auc", "average_precision"):
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


def test_average_precision_of_a_worked_example_is_known():
    """Precisions 1/1, 2/3 and 3/5 where the three positives are found."""
    value, target = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1.0, 0, 1, 0, 1])
    zeros = np.zeros(5, int)
    found = AGGREGATES.get("average_precision").evaluate(value, target, zeros, zeros, np.ones((1, 1)))
    assert found[0, 0] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_the_precision_of_a_constant_score_is_the_share_of_positives():
    target, zeros = np.array([1.0, 0, 0, 1, 0]), np.zeros(5, int)
    weights = np.array([[1.0] * 5, [3, 1, 1, 0, 0]])
    found = AGGREGATES.get("average_precision").evaluate(np.full(5, 0.3), target, zeros, np.arange(5), weights)
    assert found[:, 0].tolist() == pytest.approx([0.4, 0.6])


def test_precision_without_positives_is_undefined():
    zeros = np.zeros(2, int)
    found = AGGREGATES.get("average_precision").evaluate(
        np.array([0.1, 0.9]), np.zeros(2), zeros, np.arange(2), np.ones((1, 2))
    )
    assert np.isnan(found[0, 0])


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
