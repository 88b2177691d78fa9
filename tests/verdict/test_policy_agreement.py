"""Agreement of imagined with true success, on planted policies whose agreement is known."""

from math import comb

import numpy as np
import pytest
from scipy import stats

from rslwm.evals.rates import Estimate
from rslwm.types import DataError
from rslwm.verdict.agreement import Agreement, AgreementConfig, Counts, by_episodes, spearman
from rslwm.verdict.checks import Checks, fisher, pearson
from rslwm.verdict.ranks import mmrv

REAL, SIMULATED = "MMRV (real", "MMRV (simulated"
QUICK = AgreementConfig(draws=400)


def names(word: str, count: int) -> list[str]:
    return [f"{word} {i}" for i in range(count)]


def outcomes(rates: np.ndarray, trials: int, seed: int) -> np.ndarray:
    """(P, K, N) by chance, of true rates (P, K)."""
    return np.random.default_rng(seed).random((*rates.shape, trials)) < rates[..., None]


def planted(policies: int = 12, tasks: int = 4, seed: int = 0) -> np.ndarray:
    """True rates (P, K): policies and tasks differ, and some policies are better at some tasks."""
    random = np.random.default_rng(seed)
    level = np.linspace(0.15, 0.85, policies)[:, None] + random.uniform(-0.1, 0.1, tasks)
    return np.clip(level + random.normal(0, 0.05, (policies, tasks)), 0.02, 0.98)


def agreement(true: np.ndarray, imagined: np.ndarray, config: AgreementConfig = QUICK, seed: int = 0) -> Agreement:
    counts = [
        Counts.of(outcomes(rates, 200, chance)) for rates, chance in ((true, 2 * seed + 1), (imagined, 2 * seed + 2))
    ]
    return Agreement.of(*counts, names("policy", len(true)), names("task", true.shape[1]), config)


def test_correlations_are_scipy_s() -> None:
    for seed in range(20):
        a, b = np.random.default_rng(seed).integers(0, 8, (2, 9)) / 8
        assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_a_constant_prediction_knows_nothing_and_a_constant_truth_asks_nothing() -> None:
    assert pearson(np.arange(4.0), np.full(4, 0.3)) == 0
    assert np.isnan(pearson(np.full(4, 0.3), np.arange(4.0)))


def test_every_scope_is_what_it_says() -> None:
    true, imagined = planted(8, 3), planted(8, 3, seed=1)
    found = agreement(true, imagined)
    a, b = (Counts.of(outcomes(rates, 200, seed)).rates for rates, seed in ((true, 1), (imagined, 2)))
    expected = {
        "policies": stats.pearsonr(a.mean(1), b.mean(1)).statistic,
        "cells": stats.pearsonr(a.ravel(), b.ravel()).statistic,
        "within": np.mean([stats.pearsonr(a[:, k], b[:, k]).statistic for k in range(3)]),
        "residual": stats.pearsonr(*(_centred(x).ravel() for x in (a, b))).statistic,
    }
    for scope, value in expected.items():
        assert found["r", scope].value == pytest.approx(value)
    assert found["rho", "policies"].value == pytest.approx(stats.spearmanr(a.mean(1), b.mean(1)).statistic)
    assert found[REAL, "policies"].value == pytest.approx(mmrv(a.mean(1), b.mean(1)).value)
    assert found[SIMULATED, "cells"].value == pytest.approx(mmrv(a.ravel(), b.ravel(), gap="simulated").value)
    assert found[REAL, "within"].value == pytest.approx(np.mean([mmrv(a[:, k], b[:, k]).value for k in range(3)]))


def _centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(0) - x.mean(1, keepdims=True) + x.mean()


def test_a_model_that_is_right_agrees() -> None:
    rates = planted()
    found = agreement(rates, rates)
    assert found["r", "policies"].value > 0.98
    assert found["r", "within"].low > 0.9
    assert found[REAL, "policies"].value < 0.02
    assert found.bias.low < 0 < found.bias.high


def test_an_optimistic_model_keeps_the_order_and_shows_its_bias() -> None:
    rates = planted()
    found = agreement(rates, rates + 0.6 * (1 - rates))
    assert found["rho", "policies"].value > 0.95
    assert found["rho", "policies"].low > 0.7
    assert found[REAL, "policies"].value < 0.05
    assert found.bias.value == pytest.approx(0.6 * (1 - rates).mean(), abs=0.03)
    assert found.bias.low > 0.1


def test_a_model_that_ignores_policies_doesn_t_agree() -> None:
    found = [agreement(rates := planted(), 0 * rates + rates.mean(0), seed=seed) for seed in range(8)]
    assert abs(np.mean([one["r", "policies"].value for one in found])) < 0.2
    assert all(one["r", "policies"].low < 0 < one["r", "policies"].high for one in found)
    assert min(one[REAL, "policies"].value for one in found) > 0.2


def test_a_pooled_correlation_may_be_nothing_but_how_hard_tasks_are() -> None:
    """The model knows which tasks are hard, and takes every policy for the same."""
    true = np.clip(planted(10, 4) * 0.2 + np.array([0.05, 0.3, 0.5, 0.7]), 0, 1)
    found = agreement(true, np.broadcast_to(true.mean(0), true.shape))
    assert found["r", "cells"].value > 0.95
    assert found["r", "cells"].low > 0.7
    assert abs(found["r", "within"].value) < 0.4
    assert abs(found["r", "residual"].value) < 0.4


def test_intervals_cover_the_correlation_of_all_policies() -> None:
    """Of policies drawn from very many whose correlation is known, in about as many cases as intervals say."""
    random = np.random.default_rng(0)
    covered = []
    for _ in range(100):
        skill = random.normal(0, 1, (2, 12))
        true, seen = skill[0], 0.8 * skill[0] + 0.6 * skill[1]  # r is 0.8
        rates = (stats.norm.cdf(0.5 * x)[:, None] for x in (true, seen))
        counts = [Counts(np.rint(r * 10_000), np.full((12, 1), 10_000)) for r in rates]
        found = Agreement.of(*counts, names("policy", 12), ["task"], AgreementConfig(draws=200))["r", "policies"]
        covered.append(found.low <= 0.8 <= found.high)
    assert 0.88 <= np.mean(covered) <= 1


def test_intervals_of_few_policies_are_as_wide_as_few_take() -> None:
    """The bias of seven policies that vary: bare percentiles cover it in 86 of 100 cases."""
    random = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        true = np.full((7, 1), 5000)
        counts = Counts(true, true * 2), Counts(true + np.rint(random.normal(500, 500, (7, 1))), true * 2)
        found = Agreement.of(*counts, names("policy", 7), ["task"], AgreementConfig(draws=200)).bias
        covered.append(found.low <= 0.05 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_intervals_are_of_other_tasks_too() -> None:
    """The model is wrong about one task of five; whether that is drawn decides."""
    rates = planted(12, 5)
    wrong = rates.copy()
    wrong[:, 0] = rates[::-1, 0]
    assert np.diff(_bounds(agreement(rates, wrong)["r", "within"])) > 0.3
    assert np.diff(_bounds(agreement(rates, rates)["r", "within"])) < 0.1


def _bounds(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def test_the_same_seed_gives_the_same_numbers() -> None:
    rates = planted()
    assert agreement(rates, rates).statistics == agreement(rates, rates).statistics
    other = agreement(rates, rates, AgreementConfig(draws=400, seed=1))
    assert other["r", "policies"].low != agreement(rates, rates)["r", "policies"].low


def test_few_policies_get_no_percentile_interval() -> None:
    rates = planted(6)
    few = agreement(rates, rates)
    assert few.checks.support == comb(11, 6) == 462
    assert np.isnan(few["r", "policies"].low)
    assert np.isnan(few.bias.low)
    assert any("462 distinct resamples, too few for a percentile interval" in line for line in few.lines())
    assert np.isfinite(agreement(planted(7), planted(7))["r", "policies"].low)


def test_a_task_that_a_policy_wasn_t_tried_in_is_left_out_for_all() -> None:
    rates = planted(8, 3)
    played = outcomes(rates, 50, 1).astype(float)
    played[2, 1] = np.nan
    true, imagined = Counts.of(played), Counts.of(outcomes(rates, 50, 2))
    found = Agreement.of(true, imagined, names("policy", 8), ["a", "b", "c"], QUICK)
    assert (found.tasks, found.left_out) == (("a", "c"), ("b",))
    kept = Counts.of(played[:, [0, 2]]), Counts.of(outcomes(rates, 50, 2)[:, [0, 2]])
    assert found.statistics == Agreement.of(*kept, names("policy", 8), ["a", "c"], QUICK).statistics
    assert "without b" in found.lines()[0]


def test_what_can_t_be_compared_is_refused() -> None:
    two, three = (Counts(np.ones((n, 2)), np.full((n, 2), 3)) for n in (2, 3))
    with pytest.raises(DataError, match="2 policies"):
        Agreement.of(two, two, names("policy", 2), names("task", 2))
    with pytest.raises(DataError, match="imagined counts have shape"):
        Agreement.of(three, two, names("policy", 3), names("task", 2))
    with pytest.raises(DataError, match="more than it has trials"):
        Counts(np.full((3, 1), 4), np.full((3, 1), 3))


def checks(true, imagined, trials=50) -> Checks:
    true, imagined = np.asarray(true, float), np.asarray(imagined, float)
    return Checks.of(
        names("policy", len(true)), true, imagined, np.full((len(true), 1), trials), 0.95, 0.1, 1000, "xor"
    )


def test_one_policy_that_carries_a_correlation_is_flagged() -> None:
    cloud = np.random.default_rng(3).uniform(0.45, 0.55, (2, 7))
    true, imagined = np.append(cloud[0], 0.0), np.append(cloud[1], 0.05)
    found = checks(true, imagined)
    assert found.fisher.value > 0.9
    assert found.flagged == ("policy 7",)
    assert found.r_without[7] == pytest.approx(stats.pearsonr(*cloud).statistic)
    assert found.hat[7] > 0.9
    assert "hangs on policy 7" in found.lines()[0]
    assert not checks(np.linspace(0, 1, 8), np.linspace(0.1, 0.9, 8)).flagged


def test_hat_values_are_those_of_a_regression_line() -> None:
    x = np.random.default_rng(0).random(6)
    design = np.column_stack([np.ones(6), x])
    expected = np.diag(design @ np.linalg.inv(design.T @ design) @ design.T)
    np.testing.assert_allclose(checks(np.random.default_rng(1).random(6), x).hat, expected)


def test_fisher_s_interval_is_scipy_s_and_none_of_three() -> None:
    a, b = np.random.default_rng(0).random((2, 9))
    expected = stats.pearsonr(a, b).confidence_interval()
    found = fisher(float(pearson(a, b)), 9, 0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(fisher(0.9, 3, 0.95).low)
    assert np.isnan(fisher(1.0, 9, 0.95).low)


def test_what_few_policies_can_t_show_is_counted() -> None:
    four = checks([0.1, 0.4, 0.6, 0.8], [0.2, 0.3, 0.7, 0.9])
    assert four.permutation_floor == pytest.approx(1 / 24)
    assert four.support == 35
    assert not four.resampled
    assert four.step == 1 / 200
    assert any("by chance with 0.20" in line for line in four.lines())


def test_mmrv_is_on_its_lattice() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        true, imagined = random.integers(0, 51, (2, 5)) / 50
        found = checks(true, imagined)
        assert found.mmrv / found.step == pytest.approx(round(found.mmrv / found.step))


def test_unequal_trials_have_no_lattice() -> None:
    trials = np.array([[10], [20], [30], [10]])
    rates = np.array([0.1, 0.2, 0.3, 0.4])
    found = Checks.of(names("policy", 4), rates, rates, trials, 0.95, 0.1, 1000, "xor")
    assert np.isnan(found.step)
    assert any("no lattice" in line for line in found.lines())


def test_mmrv_may_hang_on_one_policy_more_than_r() -> None:
    true, imagined = np.array([0.1, 0.3, 0.5, 0.7, 0.9]), np.array([0.1, 0.3, 0.5, 0.95, 0.2])
    found = checks(true, imagined)
    assert found.mmrv_without.min() == 0 < found.mmrv_without.max()


def test_agreement_grows_with_episodes_to_that_of_all() -> None:
    rates = 0.4 + 0.2 * planted()
    played = [outcomes(rates, 200, seed) for seed in (1, 2)]
    points = by_episodes(*played, [5, 50, 200], draws=100)
    assert [point.episodes for point in points] == [5, 50, 200]
    few, some, every = (point.r for point in points)
    assert few.value + 0.1 < some.value < every.value
    assert few.high - few.low > some.high - some.low > every.high - every.low
    whole = stats.pearsonr(*(x.mean((1, 2)) for x in played)).statistic
    assert (every.low, every.value, every.high) == pytest.approx((whole,) * 3)
    assert points[0].mmrv.value > points[1].mmrv.value


def test_trials_of_one_start_are_left_out_together() -> None:
    """A start decides; where model and truth share it they agree however few there are."""
    start = np.random.default_rng(0).random((1, 1, 100))
    played = start < planted(8, 1)[..., None]
    together, apart = (by_episodes(played, played, [4], shared, 100)[0].r.value for shared in (True, False))
    assert together == pytest.approx(1)
    assert apart < 0.97


def test_more_episodes_than_there_are_can_t_be_drawn() -> None:
    played = outcomes(planted(4, 2), 10, 0)
    with pytest.raises(DataError, match="there are 1 to 10 trials"):
        by_episodes(played, played, [5, 20])
    with pytest.raises(DataError, match="alike if shared"):
        by_episodes(played, played[..., :5], [5])
