from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from planted import INFOS, info, join, record, rows, study
from rslwm.types import DataError, Unavailable
from rslwm.verdict.axis import REACH, AxisScores, Noise, _needed
from rslwm.verdict.decide import VerdictConfig, decide

QUICK = VerdictConfig(resamples=400)
SEEDS = np.arange(3)
EPISODES = np.array([f"e{i:02d}" for i in range(30)])


def verdicts(repeats, known=None, **planted):
    """On planning, of studies that differ in chance only."""
    planted = {"axes": ("planning",), "seeds": 3, **planted}
    tables = (study(rng=np.random.default_rng(seed), **planted) for seed in range(repeats))
    return [decide(table, INFOS, QUICK, known).axes["planning"] for table in tables]


def winners(repeats, **planted):
    return [axis.winner for axis in verdicts(repeats, **planted)]


def one_axis(values_by_space, metric, **columns):
    table = [
        rows(latent=space, metric=metric.name, unit=EPISODES, seed=SEEDS[:, None], value=value, **columns)
        for space, value in values_by_space.items()
    ]
    return decide(join(*table), {metric.name: metric}, QUICK)


@pytest.mark.parametrize("spaces", [2, 4])
def test_equal_spaces_are_rarely_told_apart(spaces):
    found = winners(300, skills={f"s{i}": 0.5 for i in range(spaces)}, episodes=24)
    assert np.mean([bool(w) for w in found]) <= 0.08  # 5 % and two standard errors of 300 studies


@pytest.mark.parametrize("seeds", [2, 3])
def test_luck_of_the_training_is_not_taken_for_a_better_space(seeds):
    found = winners(150, skills={"a": 0.5, "b": 0.5}, training=0.2, noise=0.02, seeds=seeds)
    assert np.mean([bool(w) for w in found]) <= 0.09


def test_a_planted_difference_is_found():
    found = winners(60, skills={"bad": 0.4, "good": 0.5, "vae": 0.42}, episodes=40)
    assert np.mean([w == "good" for w in found]) > 0.9


def test_one_training_names_no_winner_and_without_a_record_rules_nothing_out():
    for noise in (None, record({"planning": 0.01})):
        axes = verdicts(5, noise, skills={"good": 0.9, "bad": 0.1}, seeds=1)
        assert not any(axis.winner for axis in axes)
        assert {axis.contenders for axis in axes} == {("good", "bad") if noise is None else ("good",)}


@pytest.mark.parametrize("spaces", [2, 6])
def test_of_equal_spaces_trained_once_the_worst_is_rarely_ruled_out(spaces):
    planted = {"skills": {f"s{i}": 0.5 for i in range(spaces)}, "training": 0.05, "noise": 0.05, "seeds": 1}
    noises = [record({"planning": 0.05}, np.random.default_rng(seed)) for seed in range(150)]
    found = [len(verdicts(1, noise, **planted, episodes=20 + i % 9)[0].contenders) for i, noise in enumerate(noises)]
    assert np.mean(np.array(found) < spaces) <= 0.09


def test_a_space_far_below_is_ruled_out_after_one_training():
    noise = record({"planning": 0.03}, np.random.default_rng(0))
    axes = verdicts(40, noise, skills={"a": 0.5, "b": 0.48, "blind": 0.3}, training=0.03, seeds=1)
    assert np.mean(["blind" not in axis.contenders for axis in axes]) > 0.9
    assert np.mean([len(axis.contenders) == 2 for axis in axes]) > 0.7


def test_the_advised_number_of_episodes_decides_most_of_the_time():
    skills = {"a": 0.53, "b": 0.5}
    asked = verdicts(40, skills=skills, episodes=30)
    needed = int(np.median([axis.needed.units for axis in asked if axis.needed and axis.needed.units]))
    assert needed > 30
    assert np.mean([w == "a" for w in winners(60, skills=skills, episodes=needed)]) > 0.6


def test_where_training_noise_hides_the_difference_seeds_are_advised():
    noise = record({"planning": 0.06}, np.random.default_rng(0))
    (axis,) = verdicts(1, noise, skills={"a": 0.55, "b": 0.5}, seeds=1, episodes=400)
    assert axis.contenders == ("a", "b")
    assert axis.needed.seeds > 1
    assert axis.needed.units == axis.units


def test_advice_beyond_reach_is_not_given():
    table = rows(latent=["a", "b"], metric="skill", unit=EPISODES[:, None], value=[0.5001, 0.5])
    noise = record({"skill": 0.05}, np.random.default_rng(0))
    (sentence,) = decide(table, {"skill": info()}, QUICK, noise).decisions.values()
    assert "not even 100 times as many episodes and 100 trainings of every space would decide" in sentence


@pytest.mark.parametrize("training_sd", [0.01, 0.03, 0.05, 0.1])
def test_advice_fits_the_budget_or_nothing_in_reach_does(training_sd):
    """Chance of episodes and of training together: no gap between what episodes alone can do and what seeds can."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, (401, 2))
    for gap in np.geomspace(1e-3, 0.3, 60):
        estimates = np.array([0.5 + gap, 0.5]) + noise - noise[0]
        axis = AxisScores(estimates, estimates, Noise("measured", training_sd, 2), np.array([1, 1]), 30)
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
    verdict = decide(table, {"psnr": metric}, QUICK)
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
    verdict = decide(table, metrics, QUICK)
    assert [s.score for s in verdict.axes["planning"].standings] == pytest.approx([0.6, 0.4])
    assert [(u.metric, u.reason) for u in verdict.left_out] == [("luxury", "not measured for every latent space")]
    assert verdict.metrics[1].bars[0].value == 1.0  # it is still shown


@pytest.mark.parametrize("spaces", [["a"], ["a", "b"]])
def test_a_metric_that_is_no_number_anywhere_counts_for_none(spaces):
    table = join(
        rows(latent=spaces, metric="skill", unit=EPISODES[:, None], value=[0.4, 0.6][: len(spaces)]),
        rows(latent=spaces, metric="luxury", unit=EPISODES[:, None], value=np.nan),
    )
    verdict = decide(table, {"skill": info(), "luxury": info("luxury")}, QUICK)
    assert [u.metric for u in verdict.left_out] == ["luxury"]
    assert any(f"{30 * len(spaces)} rows aren't finite numbers" in note for note in verdict.notes)
    assert verdict.metrics[1].bars[0].value is None


def test_a_metric_that_failed_in_one_training_counts_for_none_and_the_failure_is_the_reason():
    table = study({"a": 0.5, "b": 0.4}, np.random.default_rng(0), seeds=2)
    extra = rows(latent=["a", "b"], metric="extra", unit=EPISODES[:, None, None], seed=[[0], [1]], value=0.5)
    extra = extra.where((extra["latent"] == "a") | (extra["seed"] == 0))
    why = [Unavailable("extra", "failed for b seed 1: out of luck")]
    verdict = decide(join(table, extra), {**INFOS, "extra": info("extra")}, QUICK, unavailable=why)
    assert [part.name for part in verdict.axes["planning"].parts] == ["planning"]
    assert "planning: scored without extra: failed for b seed 1: out of luck." in verdict.notes


def test_a_space_may_have_fewer_trainings_than_another():
    table = study({"a": 0.5, "b": 0.4}, np.random.default_rng(0), seeds=2)
    verdict = decide(table.where((table["latent"] == "a") | (table["seed"] == 0)), INFOS, QUICK)
    assert not verdict.left_out
    assert verdict.axes["planning"].noise.freedom == 1


@pytest.mark.parametrize(
    ("ceiling", "says"), [(0.3, "no better: there is no room"), (1.05, "times the standard error")]
)
def test_a_metric_without_room_has_no_score_and_the_reason_holds_the_figures(ceiling, says):
    flat = info(floor_value=None, ceiling_value=ceiling, floor="copy the last frame")
    noise = np.random.default_rng(0).normal(0, 0.1, 30)
    table = join(
        rows(latent="a", metric="skill", unit=EPISODES, value=0.5),
        rows(latent="a", metric="skill", unit=EPISODES, role="floor", value=1 - noise.mean() + noise),
    )
    verdict = decide(table, {"skill": flat}, QUICK)
    assert "(copy the last frame) is 1 " in verdict.left_out[0].reason
    assert says in verdict.left_out[0].reason
    assert not verdict.axes
    assert any("planning: no score" in note and says in note for note in verdict.notes)


def test_room_is_needed_in_standard_errors_of_the_paired_difference():
    """Floor and ceiling vary with the episode, by far more than the room; their difference hardly does."""
    hard = np.random.default_rng(0).normal(0, 1, 30)
    values = {"value": 0.05, "floor": 0.0, "ceiling": 0.1}
    table = join(*(rows(latent="a", metric="skill", unit=EPISODES, role=r, value=v + hard) for r, v in values.items()))
    metric = info(floor_value=None, ceiling_value=None)
    assert decide(table, {"skill": metric}, QUICK).axes["planning"].standings[0].score == pytest.approx(0.5)


@pytest.mark.parametrize("seeds", [1, 3])
def test_few_episodes_decide_nothing(seeds):
    verdict = decide(study({"a": 0.9, "b": 0.1}, np.random.default_rng(0), episodes=4, seeds=seeds), INFOS, QUICK)
    assert not verdict.axes["planning"].winner
    assert len(verdict.axes["planning"].contenders) == 2
    assert "at least 5" in verdict.decisions["fidelity"]


def test_one_space_has_no_rival():
    verdict = decide(study({"a": 0.9}, np.random.default_rng(0)), INFOS, QUICK)
    assert "nothing to decide" in verdict.decisions["fidelity"]
    assert verdict.axes["overall"].standings[0].best == 1


def test_identical_spaces_share_the_chance_of_being_best():
    value = np.random.default_rng(0).random(30)
    standings = one_axis({"a": value, "b": value, "c": value}, info()).axes["planning"].standings
    assert [s.best for s in standings] == pytest.approx([1 / 3] * 3)


def test_overall_is_the_mean_of_the_axes_and_not_of_the_metrics():
    table = study({"a": 0.5, "b": 0.4}, np.random.default_rng(0))
    second = rows(latent=["a", "b"], metric="extra", axis="planning", unit=EPISODES[:, None], value=[0.0, 0.0])
    axes = decide(join(table, second), {**INFOS, "extra": info("extra")}, QUICK).axes
    score = {name: next(s.score for s in axis.standings if s.latent == "a") for name, axis in axes.items()}
    assert score["overall"] == pytest.approx(
        (score["fidelity"] + score["planning"] + score["representation"]) / 3, abs=1e-9
    )


def test_an_axis_without_metrics_leaves_no_overall():
    verdict = decide(study({"a": 0.5, "b": 0.4}, np.random.default_rng(0), axes=("fidelity",)), INFOS, QUICK)
    assert "overall" not in verdict.axes
    assert "planning and representation" in verdict.notes[-1]


def test_disagreeing_axes_are_pointed_out():
    rng = np.random.default_rng(0)
    table = join(
        study({"a": 0.6, "b": 0.3}, rng, seeds=3, axes=("fidelity",)),
        study({"a": 0.3, "b": 0.6}, rng, seeds=3, axes=("planning",)),
    )
    assert any("axes disagree (a on fidelity, b on planning)" in s for s in decide(table, INFOS, QUICK).notes)


def test_the_family_contrast_is_paired():
    skills = {"vae": 0.4, "cosmos-vae": 0.42, "vjepa": 0.5, "dino": 0.52}
    verdict = decide(study(skills, np.random.default_rng(0), difficulty=0.5), INFOS, QUICK)
    contrast = verdict.axes["planning"].contrast
    assert contrast.low < 0.1 < contrast.high
    assert contrast.p < 0.05
    assert decide(study({"a": 0.5}, np.random.default_rng(0)), INFOS, QUICK).axes["planning"].contrast is None


def test_the_verdict_says_where_its_training_noise_is_from():
    once = study({"a": 0.5, "b": 0.5}, np.random.default_rng(0))
    assert "is unknown: there is no record of it" in decide(once, INFOS, QUICK).training
    measured = decide(study({"a": 0.5, "b": 0.5}, np.random.default_rng(0), seeds=4, training=0.1), INFOS, QUICK)
    assert "measured with 4 seeds" in measured.training
    assert "6 degrees of freedom" in measured.training
    assert measured.axes["planning"].noise.sd == pytest.approx(0.1, rel=0.7)
    noise = record(dict.fromkeys(INFOS, 0.02), np.random.default_rng(0))
    borrowed = decide(once, INFOS, QUICK, noise)
    assert (
        "from the record demo, made by 6 spaces under this configuration, pooled over 12 degrees" in borrowed.training
    )
    assert borrowed.axes["planning"].noise.sd == pytest.approx(0.02, rel=0.6)


def test_a_record_of_another_configuration_is_not_used_and_the_difference_is_named():
    noise = replace(record(dict.fromkeys(INFOS, 0.01)), unlike=("world_model.optim.steps 450 there, 900 here",))
    verdict = decide(study({"a": 0.9, "b": 0.1}, np.random.default_rng(0)), INFOS, QUICK, noise)
    assert verdict.axes["planning"].contenders == ("a", "b")
    assert "made under another configuration (world_model.optim.steps 450 there, 900 here)" in verdict.training


def test_an_axis_whose_metric_the_record_lacks_rules_nothing_out():
    noise = record({"fidelity": 0.01, "representation": 0.01})
    verdict = decide(study({"a": 0.9, "b": 0.1}, np.random.default_rng(0)), INFOS, QUICK, noise)
    assert {n: len(axis.contenders) for n, axis in verdict.axes.items()} == {
        "fidelity": 1, "planning": 2, "representation": 1, "overall": 2,
    }  # fmt: skip
    assert "It lacks a metric of planning and overall" in verdict.training


def test_a_record_in_the_metrics_unit_fits_any_scale():
    """A metric in centimetres whose floor is 10: a training noise of 0.5 cm is 0.05 of a score."""
    metric = info("error", higher_is_better=False, floor_value=10.0, ceiling_value=0.0)
    table = rows(latent=["a", "b"], metric="error", unit=EPISODES[:, None], value=[4.0, 5.0])
    verdict = decide(table, {"error": metric}, QUICK, record({"error": 0.5}, np.random.default_rng(0)))
    assert verdict.axes["planning"].noise.sd == pytest.approx(0.05, rel=0.5)


def test_an_axis_says_what_it_lacks_and_why():
    metrics = {**INFOS, "cem": info("cem"), "extra": info("extra", scored=False)}
    lacking = [Unavailable("cem", "needs hand motions"), Unavailable("extra", "needs luck")]
    table = study({"a": 0.5, "b": 0.4}, np.random.default_rng(0))
    notes = decide(table, metrics, QUICK, unavailable=lacking).notes
    assert "planning: scored without cem: needs hand motions." in notes
    assert "planning: rests on a single metric, planning." in notes
    assert not any("luck" in note for note in notes)
    nothing = decide(table.where(table["axis"] != "planning"), metrics, QUICK, unavailable=lacking).notes
    assert "planning: no score, because no metric of it could be scored (cem: needs hand motions)." in nothing


def test_spaces_made_under_different_numerics_are_pointed_out():
    table = study({"a": 0.5, "b": 0.4}, np.random.default_rng(0))
    spaces = {name: {"device": "cpu", "dtype": "float32"} for name in "ab"}
    assert not any("numerics" in n for n in decide(table, INFOS, QUICK, numerics=spaces).notes)
    spaces["b"] = {"device": "cuda", "dtype": "bfloat16"}
    (note,) = (n for n in decide(table, INFOS, QUICK, numerics=spaces).notes if "numerics" in n)
    assert "a: cpu float32; b: cuda bfloat16" in note


def test_the_same_rows_give_the_same_verdict():
    table = study({"a": 0.5, "b": 0.45}, np.random.default_rng(0))
    assert decide(table, INFOS, QUICK) == decide(table, INFOS, QUICK)


def test_spaces_that_differ_by_rounding_are_equal():
    """How a product of matrices is rounded depends on where a column stands and on the CPU."""
    value = np.random.default_rng(0).random(30)
    axis = one_axis({"a": value, "b": value + 1e-15, "c": value * (1 - 1e-15)}, info()).axes["planning"]
    assert [s.best for s in axis.standings] == pytest.approx([1 / 3] * 3)
    assert [s.latent for s in axis.standings] == ["a", "b", "c"]
    assert (axis.winner, axis.lead.p) == ("", 1.0)


def test_rows_of_an_undeclared_metric_are_refused():
    table = study({"a": 0.5}, np.random.default_rng(0))
    with pytest.raises(DataError, match="'fidelity', which isn't declared"):
        decide(table, {"skill": info()}, QUICK)
    with pytest.raises(DataError, match="no rows"):
        decide(table.where(np.zeros(len(table), bool)), INFOS, QUICK)
