from dataclasses import replace

import numpy as np
import pytest

from planted import info, join, record, rows
from rslwm.evals.rows import DTYPES, Rows
from rslwm.verdict.combination import BELIEVED, Member, _episodes, combine, weigh
from rslwm.verdict.decide import VerdictConfig, decide
from rslwm.verdict.wording import fragile

QUICK = VerdictConfig(resamples=400)
EPISODES = np.array([f"e{i:02d}" for i in range(40)])
SPACES = np.array(["a", "b", "c"])


def metric(name, skills, rng, noise=0.1, room=(0.0, 1.0), axis="planning", seeds=1, training=0.0):
    """Rows of one metric on a scale of its own: floor and ceiling are ``room``."""
    shape = (len(skills), seeds, len(EPISODES))
    score = np.array(skills)[:, None, None] + rng.normal(0, noise, shape) + rng.normal(0, 0.2, shape[2])
    score = score + rng.normal(0, training, (len(skills), seeds, 1))
    return rows(
        metric=name,
        axis=axis,
        latent=SPACES[: len(skills), None, None],
        seed=np.arange(seeds)[None, :, None],
        unit=EPISODES,
        value=room[0] + (room[1] - room[0]) * score,
    )


def infos(*names, room=None, axis="planning"):
    bounds = {name: (room or {}).get(name, (0.0, 1.0)) for name in names}
    return {n: info(n, axis=axis, floor_value=low, ceiling_value=high) for n, (low, high) in bounds.items()}


def judged(table, metrics, noise=None, axis="planning"):
    return decide(table, metrics, QUICK, noise).axes[axis]


def scores(axis):
    return {s.latent: s.score for s in axis.standings}


def fidelity(rng, seeds):
    """PSNR with a room of 12 dB, and SSIM with so little room that its score swings six times as much."""
    room = {"psnr": (14.0, 26.0), "ssim": (0.86, 0.954)}
    table = join(
        metric("psnr", [0.5, 0.42, 0.3], rng, 0.05, room["psnr"], "fidelity", seeds),
        metric("ssim", [-0.5, -0.5, -0.5], rng, 0.3, room["ssim"], "fidelity", seeds),
    )
    return table, infos("psnr", "ssim", room=room, axis="fidelity")


def test_a_metric_with_little_room_does_not_drown_its_axis():
    table, metrics = fidelity(np.random.default_rng(0), seeds=3)
    score = table["value"].reshape(2, 3, -1)
    score = score / np.array([12.0, 0.094])[:, None, None]
    chance = (score[:, 0] - score[:, 1]).var(1)
    assert chance[1] / chance.sum() > 0.86  # what SSIM would carry in a plain mean
    axis = judged(table, metrics, axis="fidelity")
    assert {part.name: part.share for part in axis.parts} == pytest.approx({"psnr": 0.5, "ssim": 0.5})
    assert axis.parts[0].weight > 4 * axis.parts[1].weight
    assert axis.winner == "a"
    assert axis.reason == "psnr"


def test_shares_are_those_of_the_draws():
    """Of the variance of the axis's paired differences, recomputed from the metrics' own scores."""
    rng = np.random.default_rng(1)
    table = join(*(metric(f"m{i}", [0.5, 0.5], rng, noise) for i, noise in enumerate((0.1, 0.2, 0.4))))
    metrics = infos("m0", "m1", "m2")
    verdict = decide(table, metrics, VerdictConfig(resamples=4000))
    (*parts,) = verdict.axes["planning"].parts
    counts = np.random.default_rng(5).multinomial(40, np.full(40, 1 / 40), 4000)
    value = table["value"].reshape(3, 2, 40)
    delta = ((value[:, 0] - value[:, 1]) @ counts.T) / 40  # (metric, draw)
    whole = sum(part.weight * d for part, d in zip(parts, delta, strict=True))
    for part, d in zip(parts, delta, strict=True):
        assert part.share == pytest.approx(part.weight * np.cov(d, whole)[0, 1] / whole.var(), abs=0.05)
    assert sum(part.share for part in parts) == pytest.approx(1)


@pytest.mark.parametrize("correlated", ["any", "positive"])
def test_no_member_carries_more_than_half_of_the_noise(correlated):
    rng = np.random.default_rng(0)
    for _ in range(300):
        members = rng.integers(2, 9)
        root = rng.normal(size=(members, members + 3)) * 10 ** rng.uniform(-2, 1, (members, 1))
        root = np.abs(root) if correlated == "positive" else root
        weights, noise = weigh(root @ root.T, np.ones(members, bool))
        parts = weights * (noise @ weights)
        assert parts.max() <= parts.sum() * (0.5 + 1e-6)
        assert weights.sum() == pytest.approx(1)
        assert weights.min() > 0


def test_two_copies_of_a_metric_count_once():
    rng = np.random.default_rng(0)
    one, other = metric("m0", [0.5, 0.3, 0.4], rng), metric("m1", [0.2, 0.5, 0.4], rng)
    columns = {**one.columns, "metric": np.full(len(one), "m2")}
    copied = Rows({name: columns[name] for name in DTYPES})
    before = judged(join(one, other), infos("m0", "m1"))
    after = judged(join(one, other, copied), infos("m0", "m1", "m2"))
    weights = {part.name: part.weight for part in after.parts}
    assert weights["m0"] == pytest.approx(weights["m2"])
    assert weights["m0"] + weights["m2"] == pytest.approx(before.parts[0].weight, abs=0.02)
    assert scores(after) == pytest.approx(scores(before), abs=0.01)


def test_the_unit_of_a_metric_changes_nothing():
    skills, found = ([0.5, 0.4, 0.45], [0.3, 0.5, 0.4]), []
    for factor, offset in ((1.0, 0.0), (250.0, -40.0)):
        rng, room = np.random.default_rng(0), {"m0": (offset, offset + factor), "m1": (0.0, 1.0)}
        table = join(*(metric(name, s, rng, room=room[name]) for name, s in zip(room, skills, strict=True)))
        noise = record({"m0": 0.03 * factor, "m1": 0.02})
        found.append(judged(table, infos(*room, room=room), noise))
    one, other = found
    assert scores(one) == pytest.approx(scores(other))
    assert [p.weight for p in one.parts] == pytest.approx([p.weight for p in other.parts])
    assert one.contenders == other.contenders


def test_the_order_of_spaces_and_metrics_changes_nothing():
    rng = np.random.default_rng(0)
    table = join(*(metric(f"m{i}", [0.5, 0.45, 0.3], rng, noise, seeds=2) for i, noise in enumerate((0.1, 0.3, 0.2))))
    metrics = infos("m0", "m1", "m2")
    turned = table.where(np.arange(len(table))[::-1])
    assert turned.distinct("latent") == ("c", "b", "a")
    one, other = judged(table, metrics), judged(turned, metrics)
    assert scores(one) == pytest.approx(scores(other))
    assert {p.name: p.weight for p in one.parts} == pytest.approx({p.name: p.weight for p in other.parts})
    assert (one.winner, one.contenders) == (other.winner, other.contenders)
    assert one.lead.p == pytest.approx(other.lead.p)


def test_who_is_ahead_changes_no_weight():
    found = []
    for skills in ([0.5, 0.5, 0.5], [0.9, 0.5, 0.1]):
        rng = np.random.default_rng(0)
        table = join(metric("m0", skills, rng, 0.1), metric("m1", [0.5, 0.5, 0.5], rng, 0.2))
        found.append([part.weight for part in judged(table, infos("m0", "m1")).parts])
    assert found[0] == pytest.approx(found[1])


def test_a_metric_that_is_the_same_everywhere_has_no_weight_and_the_verdict_says_so():
    rng = np.random.default_rng(0)
    table = join(metric("m0", [0.5, 0.3], rng), rows(metric="m1", latent=["a", "b"], unit=EPISODES[:, None], value=1.0))
    verdict = decide(table, infos("m0", "m1"), QUICK)
    assert {p.name: p.weight for p in verdict.axes["planning"].parts} == {"m0": 1.0, "m1": 0.0}
    assert "planning: m1 can't tell these spaces apart and has no weight." in verdict.notes
    assert "planning: rests on a single metric, m0." in verdict.notes


def test_a_metric_without_any_chance_does_not_take_the_whole_axis():
    """Every episode shows the same difference, say an AUC of 1 against one of .9: its standard error is 0."""
    noise = np.diag([0.0, 0.04, 0.05]) ** 2
    weights, _ = weigh(noise, np.ones(3, bool))
    assert weights[0] < 1 - 1 / (2 * BELIEVED)
    assert weights[1:].min() > 0.01


def test_training_noise_counts_for_weights_as_well():
    """Two metrics as sure by episodes, one of which comes out differently after every training."""
    rng = np.random.default_rng(0)
    table = join(*(metric(n, [0.5, 0.5, 0.5], rng, 0.02, seeds=4, training=t) for n, t in (("m0", 0.0), ("m1", 0.2))))
    steady, moody = judged(table, infos("m0", "m1")).parts
    assert steady.weight > 1.5 * moody.weight


def member(name: str, noise: float, trainings: np.ndarray, rng: np.random.Generator, draws: int = 4000) -> Member:
    return Member(name, rng.normal(0, noise, (draws + 1, len(trainings))), trainings, None, 40)


def test_metrics_whose_few_trainings_happen_to_agree_are_not_taken_for_precise():
    """As sure by episodes, two trainings of one space: those of one metric are the same by luck."""
    rng = np.random.default_rng(0)
    _, (agreed, differed) = combine(
        "planning",
        [member("agreed", 0.05, np.array([[0.5, 0.5], [0.5, np.nan], [0.5, np.nan]]), rng),
         member("differed", 0.05, np.array([[0.4, 0.6], [0.5, np.nan], [0.5, np.nan]]), rng)],
    )  # fmt: skip
    assert differed.weight < agreed.weight < 1.1 * differed.weight


def test_training_noise_weighs_less_where_more_trainings_are_averaged():
    """The same noise from the same six degrees of freedom, in three trainings of every space or seven of one."""
    even = np.tile([-0.3, 0.0, 0.3], (3, 1))
    uneven = np.full((3, 7), np.nan)
    uneven[0], uneven[1:, 0] = np.repeat([-0.3, 0.0, 0.3], [3, 1, 3]), 0.0
    found = []
    for luck in (even, uneven):
        rng = np.random.default_rng(0)
        members = [member("steady", 0.1, 0 * luck, rng), member("moody", 0.1, luck, rng)]
        found.append(combine("planning", members)[1][1].weight)
    assert found[0] > found[1] + 0.01


@pytest.mark.parametrize("spaces", [1, 2, 5])
def test_noise_of_differences_is_that_of_a_single_space_however_many_there_are(spaces):
    rng = np.random.default_rng(0)
    own, common = rng.normal(0, 0.1, (1, 20001, spaces)), rng.normal(0, 1, (1, 20001, 1))
    noise = _episodes(own + (common if spaces > 1 else 0.0))
    assert noise[0, 0] == pytest.approx(0.01, rel=0.05)


def test_an_axis_is_an_average_over_questions_not_over_variants_of_one() -> None:
    """Four metrics that ask the same count as one, whatever chance makes them differ by."""
    rng = np.random.default_rng(0)
    trainings = np.full((3, 1), 0.5)
    variants = [replace(member(f"variant-{i}", 0.1, trainings, rng), question="variants") for i in range(4)]
    members = [*variants, member("other", 0.05, trainings, rng)]
    whole, parts = combine("planning", members)
    assert sum(part.weight for part in parts) == pytest.approx(1)
    assert parts[4].weight == pytest.approx(0.5, abs=0.02)  # the mean of four is as precise as the other one
    assert sum(part.share for part in parts) == pytest.approx(1)
    weighted = [part.weight * m.estimates for part, m in zip(parts, members, strict=True)]
    assert np.allclose(whole.estimates, sum(weighted))


def test_metrics_of_questions_of_their_own_are_weighed_as_without_any() -> None:
    rng = np.random.default_rng(0)
    members = [member(name, noise, np.full((3, 1), 0.5), rng) for name, noise in (("a", 0.1), ("b", 0.05), ("c", 0.3))]
    asking = [replace(m, question=f"about {m.name}") for m in members]
    for with_question, without in zip(combine("x", asking)[1], combine("x", members)[1], strict=True):
        assert replace(with_question, question="") == without


def test_the_order_without_any_one_metric_is_told() -> None:
    """One metric puts the first space far ahead, two put the second a little ahead."""
    rng = np.random.default_rng(0)
    scores = {"m0": [0.9, 0.3], "m1": [0.4, 0.5], "m2": [0.4, 0.5]}
    table = join(*(metric(name, found, rng, 0.05) for name, found in scores.items()))
    axis = judged(table, infos(*scores))
    assert axis.standings[0].latent == axis.without["m1"][0] == axis.without["m2"][0]
    assert axis.without["m0"][0] != axis.standings[0].latent
    (note,) = fragile({"planning": axis})
    assert (
        note == f"planning: without m0, {axis.without['m0'][0]} would come first instead of {axis.standings[0].latent}."
    )
