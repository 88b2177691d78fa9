"""What all judges share: verdicts, calibration, agreement of judges; and the success probe as one of them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rslwm.compute import ComputeConfig
from rslwm.evals.base import NotAvailable
from rslwm.evals.judges.base import JUDGES, Calibration, Footage, Judge, Verdicts, concord, consensus
from rslwm.evals.judges.probe import ProbeJudge
from rslwm.evals.probe import TrainedProbe
from rslwm.types import DataError, Unavailable
from rslwm.verdict.correction import Corrected, corrected

NAN = np.nan


def verdicts(*scores: float) -> Verdicts:
    score = np.array(scores)
    return Verdicts(score, score >= 0.5, np.full(len(score), NAN))


def test_the_unjudged_are_neither_successes_nor_failures() -> None:
    found = Calibration.of(verdicts(1, 1, 0, NAN, 0, 1, NAN), [True, True, True, True, False, False, False])
    assert found == Calibration(2, 1, 1, 1, unjudged=2)
    assert (found.sensitivity.successes, found.sensitivity.trials) == (2, 3)
    assert (found.specificity.successes, found.specificity.trials) == (1, 2)
    assert "2 trials are unjudged" in found.line("x")
    assert verdicts(1, NAN, 0).rate.trials == 2
    np.testing.assert_array_equal(verdicts(1, NAN, 0).outcomes, [1, NAN, 0])


def test_labels_of_other_trials_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(2,\) labels of \(3,\) verdicts"):
        Calibration.of(verdicts(1, 0, 1), [True, False])


def test_skill_is_0_of_a_judge_that_doesn_t_look_and_1_of_one_that_is_right() -> None:
    truth = np.arange(100) % 3 > 0
    always, right = (Calibration.of(verdicts(*scores), truth).skill for scores in (np.ones(100), truth.astype(float)))
    assert (always.value, right.value) == (0, 1)
    assert always.low < 0 < right.low


def test_a_calibrated_judge_s_rate_can_be_corrected() -> None:
    random = np.random.default_rng(0)

    def seen(done: np.ndarray) -> Verdicts:
        """By a judge that misses a third of the successes, and takes a fifth of the failures for such."""
        return verdicts(*np.where(done, random.random(len(done)) > 1 / 3, random.random(len(done)) < 0.2).astype(float))

    known, asked = random.random(600) < 0.5, random.random(800) < 0.75
    calibration, judged = Calibration.of(seen(known), known), seen(asked).rate
    found = corrected(judged, calibration.sensitivity, calibration.specificity)
    assert isinstance(found, Corrected)
    assert judged.estimate().high < asked.mean()
    assert found.rate.low < asked.mean() < found.rate.high
    blind = Calibration.of(verdicts(*np.ones(600)), known)
    assert isinstance(corrected(judged, blind.sensitivity, blind.specificity), Unavailable)


def test_judges_agree_on_what_both_judged() -> None:
    found = concord({"a": verdicts(1, 0, 1, NAN), "b": verdicts(1, 0, 0, 1), "c": verdicts(NAN, NAN, NAN, 0)})
    assert set(found) == {("a", "b"), ("b", "c")}
    assert (found["a", "b"].alike.successes, found["a", "b"].alike.trials) == (2, 3)
    assert found["a", "b"].kappa == pytest.approx(0.4)


def test_a_consensus_is_as_strict_as_its_strictest_and_as_silent_as_its_most_silent() -> None:
    together = consensus([verdicts(1, 0.6, 0.4, NAN), verdicts(0.9, 0.5, 0.9, 1)])
    assert together.score[:3].tolist() == [0.9, 0.5, 0.4]
    assert together.success.tolist() == [True, True, False, False]
    assert together.judged.tolist() == [True, True, True, False]


def test_footage_has_one_of_each_a_trial() -> None:
    with pytest.raises(DataError, match=r"Footage\.latents: 3 trials, but 2 instructions"):
        Footage(("a", "b"), latents=torch.zeros(3, 4, 1, 1, 2))
    with pytest.raises(DataError, match="of float64; a judge looks at"):
        Footage(("a",), frames=np.zeros((1, 2, 4, 4, 3)))


def test_judges_are_found_by_name() -> None:
    assert {*JUDGES} == {"rule", "seen", "probe", "vision_language"}
    assert all(issubclass(JUDGES.get(name), Judge) for name in JUDGES)


class Seen(nn.Module):
    """A success probe that adds up what it is shown, and notes it."""

    def forward(self, latents: Tensor) -> Tensor:
        self.shown = latents
        return latents.flatten(1).sum(1, keepdim=True)


def test_the_probe_looks_at_the_first_the_middle_and_the_last_frame_of_the_end() -> None:
    network, compute = Seen(), ComputeConfig(device="cpu", dtype="float32")
    judge = ProbeJudge(TrainedProbe(network), 5, compute)
    latents = torch.zeros(3, 12, 1, 1, 1)
    latents[0, 7], latents[1, 9], latents[2, 10] = 2.0, -1.0, 50.0
    found = judge.judge(Footage(("it",) * 3, latents=latents))
    assert network.shown.shape == (3, 3, 1, 1, 1)
    np.testing.assert_allclose(found.score, 1 / (1 + np.exp([-2.0, 1.0, 0.0])), rtol=1e-6)
    assert found.success.tolist() == [True, False, True]
    assert found.judged.all()


def test_a_probe_without_enough_frames_or_without_training_says_so() -> None:
    compute, footage = ComputeConfig(device="cpu"), Footage(("it",), latents=torch.zeros(1, 4, 1, 1, 1))
    with pytest.raises(DataError, match="the footage has 4 frames; it reads the last 5"):
        ProbeJudge(TrainedProbe(Seen()), 5, compute).judge(footage)
    with pytest.raises(DataError, match="no latents"):
        ProbeJudge(TrainedProbe(Seen()), 5, compute).judge(Footage(("it",)))
    with pytest.raises(NotAvailable, match="no success labels"):
        ProbeJudge(TrainedProbe(None, "the data have no success labels"), 3, compute).judge(footage)
