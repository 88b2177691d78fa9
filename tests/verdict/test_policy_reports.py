"""What trials of policies say of a space, from rows whose counts are known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rslwm.evals.films import Film, load, save
from rslwm.evals.policies import JUDGED, POLICY_R, WITHIN
from rslwm.evals.rows import Rows
from rslwm.report.run import Run
from rslwm.report.sections import policies
from rslwm.verdict.decide import Verdict, VerdictConfig, decide

POLICIES = ("a", "b", "c", "d", "e", "f", "g", "h")
TASKS = ("push", "drawer")
TRIALS = 20
INFOS = {info.name: info for info in (POLICY_R, WITHIN, JUDGED)}


def rows(info, policy, dim, value, target, window, latent):
    return Rows.broadcast(
        latent=latent, family="semantic", size="", seed=0, metric=info.name, axis=info.axis, split="test", unit=policy,
        k=20, value=value, higher_is_better=True, target=target, window=window, dim=dim, role="value",
    )  # fmt: skip


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    """In space "true" a policy of n true successes has as many in the model and two more; space "deaf" gives all the
    same. The judge sees 9 of 10 successes and every failure."""
    parts, trial = [], np.arange(TRIALS)
    for latent in ("true", "deaf"):
        for number, policy in enumerate(POLICIES):
            for task, name in enumerate(TASKS):
                truth = (trial < 2 * number + task).astype(float)
                imagined = (trial < (2 * number + task + 2 if latent == "true" else 10)).astype(float)
                where = 100_000 * task + trial
                parts.append(rows(WITHIN, policy, name, imagined, truth, where, latent))
                parts.append(rows(POLICY_R, policy, "", imagined, truth, where, latent))
            says, done = np.r_[np.ones(9), np.zeros(11)], np.r_[np.ones(10), np.zeros(10)]
            parts.append(rows(JUDGED, policy, "push", says, done, trial, latent))
    return decide(Rows.concatenate(parts), INFOS, VerdictConfig(resamples=200))


def test_rates_are_those_of_the_trials(verdict: Verdict):
    report = verdict.policies["true"]
    assert report.policies == POLICIES
    assert report.tasks == TASKS
    assert report.true[2] == pytest.approx((4 / 20, 5 / 20))
    assert report.imagined[2] == pytest.approx((6 / 20, 7 / 20))
    bias = next(line for line in report.statistics if line.name.startswith("imagined minus true"))
    assert bias.value == pytest.approx(2 / 20)


def test_an_optimist_keeps_the_order_and_who_ignores_policies_has_none(verdict: Verdict):
    def r(latent: str) -> float | None:
        return next(line.value for line in verdict.policies[latent].statistics if line.name.startswith("r,"))

    assert r("true") == pytest.approx(1)
    assert r("deaf") == 0
    bars = {bar.latent: bar.value for m in verdict.metrics if m.info == POLICY_R for bar in m.bars}
    assert bars["true"] == pytest.approx(1)
    assert bars["deaf"] == 0


def test_what_is_counted_are_policies(verdict: Verdict):
    assert next(m.units for m in verdict.metrics if m.info == POLICY_R) == len(POLICIES)
    assert verdict.units == 0  # not one row is of an episode


def test_success_is_corrected_for_what_the_judge_misses(verdict: Verdict):
    """45 of 100 successes would be seen of half of them: 9 in 10."""
    fixed = verdict.policies["deaf"].corrected[0]
    assert fixed.value == pytest.approx(0.5 / 0.9)
    assert fixed.low < fixed.value < fixed.high  # type: ignore[operator]
    assert "72 of 80" in verdict.policies["deaf"].judge


def test_it_is_kept_in_the_verdict_s_file(verdict: Verdict, tmp_path: Path):
    verdict.save(tmp_path / "verdict.json")
    assert Verdict.load(tmp_path / "verdict.json").policies == verdict.policies


def test_the_page_shows_every_policy_and_the_films(verdict: Verdict, tmp_path: Path):
    film = Film("c, push: done in truth, not in the model", torch.randint(0, 256, (3, 8, 16, 3), dtype=torch.uint8))
    save([film], tmp_path / "true.safetensors")
    (again,) = load(tmp_path / "true.safetensors")
    assert again.caption == film.caption
    assert torch.equal(again.frames, film.frames)
    run = Run(verdict, SimpleNamespace(), "", None, None, {"true": [again]}, tmp_path)  # type: ignore[arg-type]
    shown = policies.build(run)
    assert shown is not None
    assert [part["ink"].name for part in shown["reports"]] == ["true", "deaf"]
    (shown_film,) = shown["films"]
    assert shown_film["sheet"].startswith("data:image/webp;base64,")
    assert (shown_film["columns"], shown_film["aspect"]) == (3, 2.0)
    scatter = shown["charts"][0].panels[0]
    assert scatter.series[1].points == verdict.policies["true"].policies
    assert not scatter.series[1].low  # no rows beside it, no intervals


def test_a_policy_whose_server_failed_is_left_out_and_costs_nobody_else_a_thing(verdict: Verdict):
    parts, trial = [], np.arange(TRIALS)
    for number, policy in enumerate(("a", "b", "c", "gone")):
        for task, name in enumerate(TASKS):
            truth = (trial < 4 * number).astype(float)
            where = 100_000 * task + trial
            seen = np.full(TRIALS, np.nan) if (policy, name) == ("gone", "drawer") else truth
            parts.append(rows(WITHIN, policy, name, seen, truth, where, "a space"))
            parts.append(rows(POLICY_R, policy, "", seen, truth, where, "a space"))
    parts.append(rows(JUDGED, "a", "push", np.ones(4), np.array([1.0, 1, 0, 0]), np.arange(4), "a space"))
    found = decide(Rows.concatenate(parts), INFOS, VerdictConfig(resamples=50))
    assert found.policies["a space"].policies == ("a", "b", "c")
