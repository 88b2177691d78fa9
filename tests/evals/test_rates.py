"""Rates with their intervals, against published values and counting."""

import numpy as np
import pytest
from scipy.stats import binom

from rslwm.evals.rates import Rate, kappa, newcombe, paired, paired_bootstrap


def test_wilson_covers_a_rate_as_often_as_it_says() -> None:
    """Summed over all outcomes of 50 trials: in the mean over rates, which its formula promises."""
    k = np.arange(51)
    found = [Rate(int(n), 50).estimate() for n in k]
    low, high = np.array([e.low for e in found]), np.array([e.high for e in found])
    covered = [binom.pmf(k, 50, p)[(low <= p) & (p <= high)].sum() for p in np.linspace(0.01, 0.99, 99)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.005)


def test_wilson_at_the_ends() -> None:
    none, all_of_them = Rate(0, 20).estimate(), Rate(20, 20).estimate()
    z2 = 1.959964**2
    assert (none.low, none.high) == (0.0, pytest.approx(z2 / (20 + z2)))
    assert (all_of_them.low, all_of_them.high) == (pytest.approx(20 / (20 + z2)), 1.0)
    assert (Rate(0, 0).estimate().low, Rate(0, 0).estimate().high) == (0, 1)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((56, 70), (48, 80), (0.200, 0.052, 0.334)),  # Newcombe (1998), table II, example a
        ((9, 10), (3, 10), (0.600, 0.171, 0.809)),  # example b
    ],
)
def test_newcombe_s_difference_has_the_published_values(first, second, expected) -> None:
    found = newcombe(Rate(*first), Rate(*second))
    assert (found.value, found.low, found.high) == pytest.approx(expected, abs=5e-4)


def test_the_record_has_lerobot_s_names_in_per_cent() -> None:
    record = Rate(8, 10).record()
    assert (record["n_success"], record["n_episodes"], record["pc_success"]) == (8, 10, 80)
    assert record["pc_success_ci95"] == pytest.approx([49.0, 94.3], abs=0.1)


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="11 successes in 10 trials"):
        Rate(11, 10)


def table(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, first, second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_shared_starts_show_what_independent_ones_hide() -> None:
    one, other = table(both=30, first=9, second=0, neither=21)
    found, unpaired = paired(one, other), newcombe(Rate.of(one), Rate.of(other))
    assert (found.only_first, found.only_second, found.p) == (9, 0, pytest.approx(2 * 0.5**9))
    assert found.difference.value == unpaired.value == pytest.approx(0.15)
    assert found.difference.low > 0 > unpaired.low


def test_the_paired_difference_has_a_published_value() -> None:
    """Newcombe (1998), Statistics in Medicine 17:2635, table II: 36, 12, 2, 0 by method 10."""
    found = paired(*table(36, 12, 2, 0)).difference
    assert (found.value, found.low, found.high) == pytest.approx((0.20, 0.0569, 0.3404), abs=5e-4)


def test_equal_outcomes_leave_a_doubt_that_a_bootstrap_has_not() -> None:
    one, other = table(10, 0, 0, 10)
    assert paired(one, other).p == 1
    assert paired(one, other).difference.low < 0 < paired(one, other).difference.high
    assert paired_bootstrap(one, other, np.arange(20)).high == 0


def test_the_bootstrap_draws_starts_and_not_trials() -> None:
    one = np.repeat([True, False], 40)
    other = np.repeat([False, True], 40)
    starts = np.repeat(np.arange(4), 20)  # four starts of 20 trials that all end alike
    few, many = (paired_bootstrap(one, other, labels, draws=2000) for labels in (starts, np.arange(80)))
    assert few.value == many.value == 0
    assert few.high - few.low > 3 * (many.high - many.low)


def test_kappa_is_agreement_beyond_chance() -> None:
    one, other = table(20, 5, 10, 15)  # the textbook's: 35 of 50 agree, 25 of 50 would by chance
    assert kappa(one, other) == pytest.approx(0.4)
    assert kappa(one, one) == 1
    assert np.isnan(kappa([True] * 5, [True] * 5))
    labels = np.random.default_rng(0).integers(3, size=(2, 4000))
    assert kappa(*labels) == pytest.approx(0, abs=0.05)
