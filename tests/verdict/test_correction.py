"""A judge's rate corrected for its errors: right on average, sure as often as it says, and silent where it knows
nothing."""

import numpy as np
import pytest

from rslwm.evals.rates import Rate
from rslwm.types import Unavailable
from rslwm.verdict.correction import Corrected, corrected


def judged(random: np.random.Generator, truth: float, sensitivity: float, specificity: float, trials: int, known: int):
    """A judged rate and the judge's calibration, as they come out by chance."""
    done = random.random(trials) < truth
    says = np.where(done, random.random(trials) < sensitivity, random.random(trials) >= specificity)
    rates = (Rate(int(random.binomial(known, p)), known) for p in (sensitivity, specificity))
    return corrected(Rate.of(says), *rates, draws=2000)


@pytest.mark.parametrize(
    ("truth", "sensitivity", "specificity"), [(0.6, 0.8, 0.8), (0.3, 0.9, 0.7), (0.1, 0.7, 0.97), (0.85, 0.75, 0.9)]
)
def test_its_interval_covers_the_truth_in_about_95_of_100_cases(truth, sensitivity, specificity) -> None:
    random = np.random.default_rng(0)
    found = [judged(random, truth, sensitivity, specificity, trials=200, known=150) for _ in range(200)]
    rates = [one.rate for one in found if isinstance(one, Corrected)]
    assert len(rates) == 200
    assert 0.915 <= np.mean([r.low <= truth <= r.high for r in rates]) <= 0.985
    assert np.mean([r.value for r in rates]) == pytest.approx(truth, abs=0.015)


def test_without_the_correction_the_judge_s_rate_would_be_wrong() -> None:
    found = corrected(Rate(440, 1000), Rate(800, 1000), Rate(800, 1000))
    assert isinstance(found, Corrected)
    assert found.rate.value == pytest.approx(0.4)
    assert found.judged.estimate().low > found.rate.value  # 0.44 is sure to be too high


def test_doubts_of_the_calibration_widen_the_interval() -> None:
    sure, unsure = (corrected(Rate(120, 200), Rate(9 * n, 10 * n), Rate(8 * n, 10 * n)) for n in (100, 4))
    assert isinstance(sure, Corrected)
    assert isinstance(unsure, Corrected)
    assert unsure.rate.high - unsure.rate.low > 1.5 * (sure.rate.high - sure.rate.low)
    assert unsure.rate.value == sure.rate.value


def test_it_stays_between_0_and_1() -> None:
    found = corrected(Rate(8, 100), Rate(90, 100), Rate(90, 100))
    assert isinstance(found, Corrected)
    assert found.rate.value == found.rate.low == 0 < found.rate.high


def test_a_judge_that_errs_otherwise_here_than_where_it_was_calibrated_is_found_out() -> None:
    """It calls a tenth of all failures successes, and yet only one of these hundred trials."""
    found = corrected(Rate(1, 100), Rate(90, 100), Rate(90, 100))
    assert isinstance(found, Unavailable)
    assert found.reason.startswith("inconsistent: cannot be corrected")


@pytest.mark.parametrize(
    ("sensitivity", "specificity"),
    [((50, 50), (0, 50)), ((0, 50), (50, 50)), ((26, 50), (25, 50)), ((3, 4), (3, 4)), ((10, 50), (10, 50))],
    ids=["always success", "always failure", "random", "too few labels", "the wrong way round"],
)
def test_a_judge_that_knows_nothing_is_told_from_one_that_does(sensitivity, specificity) -> None:
    found = corrected(Rate(60, 100), Rate(*sensitivity), Rate(*specificity))
    assert isinstance(found, Unavailable)
    assert found.reason.startswith("uninformative: cannot be corrected")


def test_an_80_percent_judge_is_informative() -> None:
    assert isinstance(corrected(Rate(60, 100), Rate(40, 50), Rate(40, 50)), Corrected)


def test_an_uncalibrated_judge_is_none() -> None:
    found = corrected(Rate(60, 100), Rate(10, 12), Rate(0, 0))
    assert isinstance(found, Unavailable)
    assert "specificity: there is no such trial" in found.reason
