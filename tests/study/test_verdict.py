import json

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import norm

from planted import INFOS, info, join, rows, study
from rslwm.config import VerdictConfig
from rslwm.serialisation import ConfigError
from rslwm.study.axis import REACH, AxisScores, _needed
from rslwm.study.table import render
from rslwm.study.verdict import decide
from rslwm.types import DataError

CALM = VerdictConfig(resamples=400, training_sd={"fidelity": 0.0, "planning": 0.0, "representation": 0.0})
NOISY = VerdictConfig(resamples=400)
EPISODES = np.array([f"e{i:02d}" for i in range(30)])


def winners(config, repeats, **planted):
    """Winners on planning of studies that differ in chance only."""
    metrics = {"planning": INFOS["planning"]}
    return [
        decide(study(rng=np.random.default_rng(seed), axes=("planning",), **planted), metrics, config)
        .axes["planning"]
        .winner
        for seed in range(repeats)
    ]


def one_axis(values_by_space, metric, **columns):
    table = [
        rows(latent=space, metric=metric.name, unit=EPISODES, value=value, **columns)
        for space, value in values_by_space.items()
    ]
    return decide(join(*table), {metric.name: metric}, CALM)


@pytest.mark.parametrize("spaces", [2, 4])
def test_equal_spaces_are_rarely_told_apart(spaces):
    found = winners(CALM, 300, skills={f"s{i}": 0.5 for i in range(spaces)}, episodes=24)
    assert np.mean([bool(w) for w in found]) <= 0.08  # 5 % and two standard errors of 300 studies


def test_luck_of_the_training_is_not_taken_for_a_better_space():
    planted = {"skills": {"a": 0.5, "b": 0.5}, "training": 0.05, "noise": 0.02}
    assert np.mean([bool(w) for w in winners(CALM, 150, **planted)]) > 0.5  # what a bootstrap over episodes would say
    assert np.mean([bool(w) for w in winners(NOISY, 150, **planted)]) <= 0.09


def test_measured_training_noise_is_calibrated_too():
    planted = {"skills": {"a": 0.5, "b": 0.5}, "training": 0.2, "noise": 0.02, "seeds": 3}
    assert np.mean([bool(w) for w in winners(NOISY, 150, **planted)]) <= 0.09


def test_a_planted_difference_is_found():
    found = winners(CALM, 60, skills={"bad": 0.4, "good": 0.5, "vae": 0.42}, episodes=40)
    assert np.mean([w == "good" for w in found]) > 0.9


def test_the_advised_number_of_episodes_decides_most_of_the_time():
    skills = {"a": 0.53, "b": 0.5}
    asked = [
        decide(study(skills, np.random.default_rng(s), episodes=30, axes=("planning",)), INFOS, CALM).axes["planning"]
        for s in range(40)
    ]
    needed = int(np.median([axis.needed.units for axis in asked if axis.needed and axis.needed.units]))
    assert needed > 30
    found = winners(CALM, 60, skills=skills, episodes=needed)
    assert np.mean([w == "a" for w in found]) > 0.6


def test_where_training_noise_hides_the_difference_seeds_are_advised():
    axis = decide(study({"a": 0.55, "b": 0.5}, np.random.default_rng(0), noise=0.01), INFOS, NOISY).axes["planning"]
    assert not axis.winner
    assert axis.needed.seeds > 1
    assert axis.needed.units == axis.units


def test_advice_beyond_reach_is_not_given():
    table = rows(latent=["a", "b"], metric="skill", unit=EPISODES[:, None], value=[0.5001, 0.5])
    (sentence, *_) = decide(table, {"skill": info()}, NOISY).sentences()
    assert "not even 100 times as many episodes and 100 trainings of every space would decide" in sentence


@pytest.mark.parametrize("training_sd", [0.01, 0.03, 0.05, 0.1])
def test_advice_fits_the_budget_or_nothing_in_reach_does(training_sd):
    """Chance of episodes and of training together: no gap between what episodes alone can do and what seeds can."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, (401, 2))
    for gap in np.geomspace(1e-3, 0.3, 60):
        estimates = np.array([0.5 + gap, 0.5]) + noise - noise[0]
        axis = AxisScores([], estimates, estimates, training_sd, np.array([1, 1]), 30)
        episodes, budget = 30 * np.var(noise[1:, 0] - noise[1:, 1]), (gap / (norm.ppf(0.975) + norm.ppf(0.8))) ** 2
        needed = _needed(axis, 0, 1, 0.95)
        if needed.units is None:
            assert episodes / (30 * REACH) + 2 * training_sd**2 / REACH >= budget
        else:
            assert 30 <= needed.units <= 30 * REACH + 1
            assert 1 <= needed.seeds <= REACH
            assert episodes / needed.units + 2 * training_sd**2 / needed.seeds <= budget * (1 + 1e-9)


def test_a_space_is_not_flattered_by_its_own_poor_ceiling():
    """Both spaces reach their own ceiling; b's encoder loses half. One scale says so."""
    metric = info("psnr", axis="fidelity", floor_value=None, ceiling_value=None)
    measured = {"a": {"value": 20, "floor": 10, "ceiling": 20}, "b": {"value": 15, "floor": 10, "ceiling": 15}}
    jitter = np.random.default_rng(0).normal(0, 0.1, 30)
    table = join(
        *(
            rows(latent=space, metric="psnr", axis="fidelity", unit=EPISODES, role=role, value=value + jitter)
            for space, roles in measured.items()
            for role, value in roles.items()
        )
    )
    verdict = decide(table, {"psnr": metric}, CALM)
    assert {s.latent: s.score for s in verdict.axes["fidelity"].standings} == pytest.approx({"a": 1.0, "b": 0.5})
    assert verdict.metrics[0].bars[1].ceiling == pytest.approx(15 + jitter.mean())


def test_lower_is_better_where_the_metric_says_so():
    error = info("error", higher_is_better=False, floor_value=2.0, ceiling_value=0.0)
    verdict = one_axis({"a": np.linspace(0.4, 0.6, 30), "b": np.linspace(1.4, 1.6, 30)}, error)
    assert verdict.axes["planning"].winner == "a"
    assert verdict.axes["planning"].standings[0].score == pytest.approx(0.75)


def test_a_metric_that_one_space_lacks_counts_for_none():
    metrics = {"skill": info(), "luxury": info("luxury")}
    table = join(
        rows(latent=["a", "b"], metric="skill", unit=EPISODES[:, None], value=[0.4, 0.6]),
        rows(latent="a", metric="luxury", unit=EPISODES, value=1.0),
    )
    verdict = decide(table, metrics, CALM)
    assert [s.score for s in verdict.axes["planning"].standings] == pytest.approx([0.6, 0.4])
    assert [(u.metric, u.reason) for u in verdict.left_out] == [("luxury", "not measured for every latent space")]
    assert verdict.metrics[1].bars[0].value == 1.0  # it is still shown


def test_a_metric_without_room_between_floor_and_ceiling_is_left_out():
    flat = info(floor_value=None, floor="copy the last frame")
    noise = np.random.default_rng(0).normal(size=30)
    table = join(
        rows(latent="a", metric="skill", unit=EPISODES, value=0.5),
        rows(latent="a", metric="skill", unit=EPISODES, role="floor", value=1 - noise.mean() + noise),
    )
    verdict = decide(table, {"skill": flat}, CALM)
    assert "can't be told apart" in verdict.left_out[0].reason
    assert not verdict.axes


def test_few_episodes_decide_nothing():
    verdict = decide(study({"a": 0.9, "b": 0.1}, np.random.default_rng(0), episodes=4), INFOS, CALM)
    assert not verdict.axes["planning"].winner
    assert "at least 5" in verdict.sentences()[0]


def test_one_space_has_no_rival():
    verdict = decide(study({"a": 0.9}, np.random.default_rng(0)), INFOS, CALM)
    assert "nothing to decide" in verdict.sentences()[0]
    assert verdict.axes["overall"].standings[0].best == 1


def test_identical_spaces_share_the_chance_of_being_best():
    value = np.random.default_rng(0).random(30)
    standings = one_axis({"a": value, "b": value, "c": value}, info()).axes["planning"].standings
    assert [s.best for s in standings] == pytest.approx([1 / 3] * 3)


def test_overall_is_the_mean_of_the_axes_and_not_of_the_metrics():
    table = study({"a": 0.5, "b": 0.4}, np.random.default_rng(0))
    second = rows(latent=["a", "b"], metric="extra", axis="planning", unit=EPISODES[:, None], value=[0.0, 0.0])
    axes = decide(join(table, second), {**INFOS, "extra": info("extra")}, CALM).axes
    score = {name: next(s.score for s in axis.standings if s.latent == "a") for name, axis in axes.items()}
    assert score["overall"] == pytest.approx(
        (score["fidelity"] + score["planning"] + score["representation"]) / 3, abs=1e-9
    )


def test_an_axis_without_metrics_leaves_no_overall():
    verdict = decide(study({"a": 0.5, "b": 0.4}, np.random.default_rng(0), axes=("fidelity",)), INFOS, CALM)
    assert "overall" not in verdict.axes
    assert "planning and representation" in verdict.sentences()[-1]


def test_disagreeing_axes_are_pointed_out():
    rng = np.random.default_rng(0)
    table = join(
        study({"a": 0.6, "b": 0.3}, rng, axes=("fidelity",)), study({"a": 0.3, "b": 0.6}, rng, axes=("planning",))
    )
    assert any("axes disagree (a on fidelity, b on planning)" in s for s in decide(table, INFOS, CALM).sentences())


def test_the_family_contrast_is_paired():
    skills = {"vae": 0.4, "cosmos-vae": 0.42, "vjepa": 0.5, "dino": 0.52}
    verdict = decide(study(skills, np.random.default_rng(0), difficulty=0.5), INFOS, CALM)
    contrast = verdict.axes["planning"].contrast
    assert contrast.low < 0.1 < contrast.high
    assert contrast.p < 0.05
    assert decide(study({"a": 0.5}, np.random.default_rng(0)), INFOS, CALM).axes["planning"].contrast is None


def test_the_verdict_says_which_training_noise_it_used():
    assumed = decide(study({"a": 0.5, "b": 0.5}, np.random.default_rng(0)), INFOS, NOISY)
    assert "assumed" in assumed.training
    assert f"planning {NOISY.training_sd['planning']:.3f}" in assumed.training
    measured = decide(study({"a": 0.5, "b": 0.5}, np.random.default_rng(0), seeds=4, training=0.1), INFOS, NOISY)
    assert "measured with 4 seeds" in measured.training
    assert "6 degrees of freedom" in measured.training
    assert measured.axes["planning"].training_sd == pytest.approx(0.1, rel=0.7)


def test_a_training_noise_that_lacks_an_axis_is_refused():
    with pytest.raises(ConfigError, match=r"verdict\.training_sd: 'planning' is missing"):
        decide(
            study({"a": 0.5, "b": 0.5}, np.random.default_rng(0)),
            INFOS,
            VerdictConfig(training_sd={"fidelity": 0.1, "representation": 0.1}),
        )


def test_the_same_rows_give_the_same_verdict():
    table = study({"a": 0.5, "b": 0.45}, np.random.default_rng(0))
    assert decide(table, INFOS, NOISY).to_dict() == decide(table, INFOS, NOISY).to_dict()


def test_the_verdict_is_valid_json_without_nan():
    metric = info(scored=False, floor_value=None)
    verdict = one_axis({"a": np.ones(30)}, metric)
    text = json.dumps(verdict.to_dict(), allow_nan=False)
    assert json.loads(text)["metrics"][0]["bars"][0]["floor"] is None


def test_rows_of_an_undeclared_metric_are_refused():
    table = study({"a": 0.5}, np.random.default_rng(0))
    with pytest.raises(DataError, match="'fidelity', which isn't declared"):
        decide(table, {"skill": info()}, CALM)
    with pytest.raises(DataError, match="no rows"):
        decide(table.where(np.zeros(len(table), bool)), INFOS, CALM)


def test_the_terminal_table_shows_scores_intervals_and_relative_cost():
    verdict = decide(study({"good": 0.6, "small-vae": 0.3}, np.random.default_rng(0)), INFOS, CALM)
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(verdict, {"good": 30.0, "small-vae": 20.0}))
    lines = console.export_text().splitlines()
    assert lines[0].split() == [
        "latent",
        "space",
        "family",
        "fidelity",
        "planning",
        "representation",
        "overall",
        "cost",
    ]
    assert lines[1].startswith("good")
    assert lines[1].rstrip().endswith("1.5x")
    assert "reconstruction" in lines[2]
    assert "planning: good (chance of being best over 99 %), ahead of small-vae" in "\n".join(lines)
