"""Where chance comes from, of studies whose chance is known; and whether what a budget promises holds."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from planted import info, rows
from rslwm.serialisation import ConfigError
from rslwm.types import DataError
from rslwm.verdict.budget import PROBE, SAMPLING, WORLD_MODEL, Budget, Piece, Variance, budget, closest, detectable
from rslwm.verdict.decide import VerdictConfig, decide
from rslwm.verdict.training_noise import Circumstances

METRICS = {"skill": info("skill")}
SPACES = {"a": 0.5, "b": 0.5, "c": 0.5}
ENCODER, MODEL, PROBES, NOISE = 0.06, 0.03, 0.02, 0.1
FIELDS = {"world_model.redraw": 0, "evaluation.probe.redraw": 0, "evaluation.seed": 1}
QUICK = VerdictConfig(resamples=300)


def measured(rng, skills=SPACES, seeds=3, episodes=60, luck=None, noise=NOISE):
    """Rows whose trainings are off by ``luck`` (L, S)."""
    value = np.array([*skills.values()])[:, None, None] + (0 if luck is None else luck[..., None])
    value = value + rng.normal(0, 0.2, episodes) + rng.normal(0, noise, (len(skills), seeds, episodes))
    return rows(
        metric="skill",
        latent=np.array([*skills])[:, None, None],
        family=np.array(["reconstruction" if name in "abc" else "semantic" for name in skills])[:, None, None],
        seed=np.arange(seeds)[None, :, None],
        unit=np.array([f"e{i:03d}" for i in range(episodes)])[None, None, :],
        value=value,
    )


def piece(table, **redrawn):
    made = Circumstances("S", {"data.episodes": 60})
    return Piece(table, METRICS, made, made.config | FIELDS | redrawn, QUICK)


def pilot(rng, seeds=3, **study):
    """A pilot and its repetitions: encoders, world models and probes have luck of their own."""
    shape = len(SPACES), seeds
    encoder, model, probe = (rng.normal(0, sd, shape) for sd in (ENCODER, MODEL, PROBES))
    again = {
        "world_model.redraw": encoder + rng.normal(0, MODEL, shape) + probe,
        "evaluation.probe.redraw": encoder + model + rng.normal(0, PROBES, shape),
    }
    table = partial(measured, seeds=seeds, **study)
    same = np.random.default_rng
    base = piece(table(same(1), luck=encoder + model + probe))
    others = [piece(table(same(1), luck=luck), **{field: 2}) for field, luck in again.items()]
    return base, [*others, piece(table(same(2), luck=encoder + model + probe), **{"evaluation.seed": 2})]


def test_each_source_of_chance_is_found_at_its_size():
    base, others = pilot(np.random.default_rng(0), seeds=60)
    found = budget("pilot", base, *others).scores["planning"]
    assert found.training**0.5 == pytest.approx((ENCODER**2 + MODEL**2 + PROBES**2) ** 0.5, rel=0.15)
    assert found.redrawn[WORLD_MODEL] ** 0.5 == pytest.approx(MODEL, rel=0.15)
    assert found.redrawn[PROBE] ** 0.5 == pytest.approx(PROBES, rel=0.15)
    assert found.encoder**0.5 == pytest.approx(ENCODER, rel=0.2)
    assert found.redrawn[SAMPLING] ** 0.5 == pytest.approx(NOISE / 60**0.5, rel=0.2)
    assert found.freedom == 3 * 59


def test_the_chance_of_episodes_is_that_of_a_difference():
    found = budget("pilot", piece(measured(np.random.default_rng(0), seeds=40, episodes=400, noise=0.2)))
    assert found.scores["skill"].episodes ** 0.5 == pytest.approx((2 * 0.2**2 / 40 / 400) ** 0.5, rel=0.15)
    assert found.scores["skill"].units == 400


def test_an_axis_of_one_metric_has_the_budget_of_the_metric():
    found = budget("pilot", piece(measured(np.random.default_rng(0)))).scores
    assert found["planning"].training == pytest.approx(found["skill"].training)
    assert found["planning"].episodes == pytest.approx(found["skill"].episodes)


def variance(training=0.05, episodes=0.02, freedom=12):
    return Variance("planning", training**2, freedom, {}, episodes**2, 60)


def test_more_seeds_spaces_and_episodes_detect_less():
    pair = detectable(variance(), seeds=3)
    assert detectable(variance(), seeds=6) < pair
    assert detectable(variance(), seeds=3, episodes=4.0) < pair
    assert detectable(variance(), seeds=3, families=(3, 3)) == pytest.approx(pair / 3**0.5)


def test_what_is_detectable_is_the_textbooks():
    many = detectable(variance(training=0.0, episodes=0.1, freedom=10**6), seeds=1)
    assert many == pytest.approx((1.95996 + 0.84162) * 0.1, rel=1e-4)


@pytest.mark.slow
def test_a_difference_that_is_detectable_is_found_as_often_as_it_says_and_none_where_there_is_none():
    """400 studies from a fitted budget: families of three with a planted contrast, and without."""
    base, others = pilot(np.random.default_rng(3), seeds=40)
    fitted = budget("pilot", base, *others).scores["planning"]
    planned = replace(fitted, freedom=12)  # six spaces of three seeds
    gap = detectable(planned, seeds=3, families=(3, 3))
    for planted, low, high in ((0.0, 0.0, 0.08), (gap, 0.7, 0.92)):
        found = []
        for number in range(400):
            rng = np.random.default_rng([number, int(planted > 0)])
            skills = {name: 0.5 + (planted if name in "def" else 0.0) for name in "abcdef"}
            luck = rng.normal(0, fitted.training**0.5, (6, 3))
            table = measured(rng, skills, luck=luck, noise=(fitted.episodes / 2 * 3 * 60 * 40 / 3) ** 0.5)
            contrast = decide(table, METRICS, QUICK).axes["planning"].contrast
            found.append(contrast.p <= 0.05)
        assert low <= np.mean(found) <= high


def test_the_order_of_rows_changes_nothing():
    table = measured(np.random.default_rng(0))
    shuffled = table.where(np.random.default_rng(1).permutation(len(table)))
    one, other = (budget("pilot", piece(rows)).scores["planning"] for rows in (table, shuffled))
    assert one.training == pytest.approx(other.training, rel=1e-9)
    assert one.episodes == pytest.approx(other.episodes, rel=1e-9)


def test_a_repetition_draws_one_thing_again():
    table = measured(np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"differs from it in one of .*; here: nothing"):
        budget("pilot", piece(table), piece(table))
    with pytest.raises(ConfigError, match=r"here: evaluation.seed, world_model.redraw"):
        budget("pilot", piece(table), piece(table, **{"evaluation.seed": 2, "world_model.redraw": 1}))


def test_a_pilot_of_one_seed_shows_no_training_noise():
    with pytest.raises(DataError, match="--seeds 3"):
        budget("pilot", piece(measured(np.random.default_rng(0), seeds=1)))


def test_a_record_comes_back_and_says_where_it_is_of_another_study(tmp_path):
    record = budget("pilot", piece(measured(np.random.default_rng(0))))
    record.save(tmp_path / "budget.json")
    loaded = Budget.load(tmp_path / "budget.json")
    assert loaded == record
    here = Circumstances("S", {"data.episodes": 90})
    assert closest(here, here, [loaded]).unlike == ("data.episodes 60 there, 90 here",)


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "budget.json").write_text("[]")
    with pytest.raises(DataError, match="no budget of variance"):
        Budget.load(tmp_path / "budget.json")
    with pytest.raises(DataError, match="rslwm budget RUN"):
        Budget.load(tmp_path / "nothing.json")
