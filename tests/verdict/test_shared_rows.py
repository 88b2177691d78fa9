"""Metrics that are computed from the same rows."""

import numpy as np
import pytest

import planted
from rslwm.evals.rows import Rows
from rslwm.types import DataError
from rslwm.verdict.bootstrap import Resampling, measure
from rslwm.verdict.decide import VerdictConfig, decide

R = planted.info("r", "pearson", "representation", floor_value=None)
R2 = planted.info("r2", "r2", "representation", floor_value=0.0, scored=False, rows_of="r")


def rows(metric: str = "r") -> Rows:
    """Predictions at twice the scale of their targets, and a floor with other targets."""
    rng = np.random.default_rng(0)
    tables = []
    for space in ("a", "b"):
        for role in ("value", "floor"):
            target = rng.normal(size=8)
            value = 2 * target if role == "value" else rng.normal(size=8)
            units = [f"e{unit}" for unit in range(8)]
            tables.append(planted.rows(latent=space, metric=metric, unit=units, value=value, target=target, role=role))
    return planted.join(*tables)


def test_each_is_its_own_aggregate_of_them() -> None:
    resampling = Resampling.of(rows(), 50, 0.95, 0)
    r, r2 = (measure(rows(), info, resampling).estimates["value"][0, 0, 0, 0] for info in (R, R2))
    assert r == pytest.approx(1)
    assert r2 < 0.2


def test_a_floor_that_is_known_takes_no_rows() -> None:
    resampling = Resampling.of(rows(), 50, 0.95, 0)
    assert np.isfinite(measure(rows(), R, resampling).estimates["floor"]).all()
    assert np.isnan(measure(rows(), R2, resampling).estimates["floor"]).all()


def test_the_verdict_shows_both() -> None:
    verdict = decide(rows(), {"r": R, "r2": R2}, VerdictConfig(resamples=50))
    assert [summary.info.name for summary in verdict.metrics] == ["r", "r2"]


def test_rows_under_the_name_of_one_that_has_none_of_its_own_are_refused() -> None:
    with pytest.raises(DataError, match="rows of the metric 'r2', which isn't declared"):
        decide(rows("r2"), {"r": R, "r2": R2}, VerdictConfig(resamples=50))
