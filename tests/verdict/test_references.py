"""Sanity rows are shown on the scale of the spaces, and change nothing of theirs."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from planted import INFOS, info, join, rows, study
from rslwm.types import DataError
from rslwm.verdict import training_noise
from rslwm.verdict.decide import VerdictConfig, decide
from rslwm.verdict.table import render
from rslwm.verdict.training_noise import Circumstances

QUICK = VerdictConfig(resamples=200)
REFERENCES = {"oracle": 1.5, "copy-last": -0.5}


def planted(seeds=3):
    return study({"good-vae": 0.6, "dino": 0.4}, np.random.default_rng(0), seeds=seeds)


def beside(seeds=3):
    found = study(REFERENCES, np.random.default_rng(1), seeds=seeds)
    return type(found)({**found.columns, "family": np.full(len(found), "reference")})


def bare(verdict):
    return replace(verdict, metrics=tuple(replace(metric, references=()) for metric in verdict.metrics))


@pytest.mark.parametrize("first", [True, False])
def test_they_move_no_score_and_no_decision(first):
    tables = (beside(), planted()) if first else (planted(), beside())
    verdict = decide(join(*tables), INFOS, QUICK)
    assert bare(verdict) == decide(planted(), INFOS, QUICK)
    assert verdict.spaces == ("good-vae", "dino")


def test_they_don_t_move_a_measured_scale_either():
    metric = info("psnr", axis="fidelity", floor_value=None, ceiling_value=None)
    episodes = np.array([f"e{i}" for i in range(30)])
    jitter = np.random.default_rng(0).normal(0, 0.1, 30)
    values = {("a", "semantic"): (20, 10, 25), ("b", "semantic"): (15, 10, 22), ("oracle", "reference"): (60, 0, 60)}
    table = join(
        *(
            rows(
                latent=latent, family=family, metric="psnr", axis="fidelity", unit=episodes, role=role, value=x + jitter
            )
            for (latent, family), of_roles in values.items()
            for role, x in zip(("value", "floor", "ceiling"), of_roles, strict=True)
        )
    )
    (summary,) = decide(table, {"psnr": metric}, QUICK).metrics
    assert summary.scale == pytest.approx((10 + jitter.mean(), 25 + jitter.mean()))
    (bar,) = summary.references
    assert bar.value == pytest.approx(60 + jitter.mean())
    assert bar.score == pytest.approx(50 / 15)


def test_they_are_shown_with_their_scores():
    verdict = decide(join(planted(), beside()), INFOS, QUICK)
    for metric in verdict.metrics:
        assert {bar.latent: bar.score for bar in metric.references} == pytest.approx(REFERENCES, abs=0.15)
    assert verdict.references["oracle"]["overall"] == pytest.approx(1.5, abs=0.1)
    with (console := Console(width=120)).capture() as captured:
        console.print(render(verdict, {"good-vae": 2.0, "dino": 1.0}))
    assert [line.split()[:2] for line in captured.get().splitlines()[1:5]] == [
        ["good-vae", "reconstruction"], ["dino", "semantic"], ["oracle", "reference"], ["copy-last", "reference"],
    ]  # fmt: skip


def test_a_reference_that_lacks_a_metric_has_no_score_there():
    lacking = beside().where(beside()["axis"] != "planning")
    verdict = decide(join(planted(), lacking), INFOS, QUICK)
    assert verdict.references["oracle"]["planning"] is None
    assert verdict.references["oracle"]["overall"] is None
    assert verdict.references["oracle"]["fidelity"] is not None


def test_a_horizon_that_a_reference_lacks_is_left_open():
    long = join(*(rows(latent="a", metric="skill", unit=["x", "y", "z"], k=k, value=[0.1, 0.2, 0.3]) for k in (1, 2)))
    short = rows(latent="oracle", family="reference", metric="skill", unit=["x", "y", "z"], k=2, value=[0.7, 0.8, 0.9])
    (summary,) = decide(join(long, short), {"skill": info()}, QUICK).metrics
    assert summary.references[0].curve.value == (None, pytest.approx(0.8))


def test_they_have_no_training_noise():
    circumstances = Circumstances("S", {})
    alone, both = (
        training_noise.record(table, INFOS, circumstances, "x") for table in (planted(), join(planted(), beside()))
    )
    assert both.spaces == alone.spaces
    assert all(np.array_equal(both.values[name], alone.values[name]) for name in alone.values)


def test_alone_they_are_no_study():
    with pytest.raises(DataError, match="no latent spaces to compare"):
        decide(beside(), INFOS, QUICK)
