"""The success probe, and data that can't be asked about success."""

from pathlib import Path

import numpy as np
import pytest

from measured import measure, select, summary, with_constant_rollouts
from point_world import PointWorldModel, write_corpus, write_latents
from rslwm.config import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.base import NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.probes import Probes, final_windows, spread


def test_a_perfect_probe_ranks_and_decides_perfectly(evaluation: Evaluation) -> None:
    rows = measure("success", evaluation)
    for metric in ("success_auc", "success_accuracy", "success_auc_generated", "success_accuracy_generated"):
        assert summary(rows, metric) == 1
        assert len(select(rows, metric)) == len(evaluation.corpus.test)


def test_rollouts_that_ignore_actions_do_not_know_the_end(evaluation: Evaluation) -> None:
    """The gripper closes in the last steps, so that only a rollout that obeys shows it."""
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    rows = measure("success", evaluation)
    clips, windows = final_windows(evaluation.corpus, evaluation.latents, evaluation.corpus.test)
    before = clips.batch(windows).x[:, 1, 0, 0, 3].float()  # the gripper in the last frame of the context
    scores = [row.value for row in select(rows, "success_auc_generated")]
    assert scores == pytest.approx((-4 * before).sigmoid().tolist(), abs=1e-5)
    assert summary(rows, "success_auc") == 1


def test_final_windows_end_with_their_episodes(corpus: Corpus, point_latents: TensorStore) -> None:
    clips, windows = final_windows(corpus, point_latents, corpus.test)
    lengths = corpus.dataset.lengths[windows[:, 0]]
    last = windows[:, 1] + (clips.frames - 1) * corpus.config.frame_skip
    assert (last == lengths - 1).all()
    assert windows[:, 0].tolist() == corpus.test
    _, near = final_windows(corpus, point_latents, corpus.test, slack=1)
    assert len(near) == sum(1 + min(1, start) for start in windows[:, 1])
    assert spread(clips.batch(windows).x).shape[1] == 3


def test_training_and_testing_clips_are_equally_long(corpus: Corpus, point_latents: TensorStore) -> None:
    """The probe reads the first, middle and last frame; were their distances others in a test, it would be unfair."""
    longest = [int(np.argmax(corpus.dataset.lengths))]
    assert final_windows(corpus, point_latents, longest)[0].frames == (min(corpus.dataset.lengths) - 1) // 2 + 1


def test_without_labels_success_is_unavailable_and_not_zero(
    unlabelled: Corpus, compute: ComputeConfig, tmp_path: Path, evaluation: Evaluation
) -> None:
    latents = write_latents(unlabelled, tmp_path / "latents")
    probes = Probes(unlabelled, latents, evaluation.config.probe)
    assert "success" not in probes.modules
    evaluation = Evaluation(
        unlabelled, latents, evaluation.world_model, probes, evaluation.config, compute, evaluation.label
    )
    with pytest.raises(NotAvailable, match="the data have no success labels"):
        measure("success", evaluation)


def test_one_outcome_only_is_said_by_its_label(tmp_path: Path, evaluation: Evaluation) -> None:
    corpus = write_corpus(tmp_path, [None, True, True, True])
    probes = Probes(corpus, write_latents(corpus, tmp_path / "latents"), evaluation.config.probe)
    assert probes.absent["success"] == "every labelled training episode has success = True"


def test_held_out_episodes_of_one_outcome_cannot_rank(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    one = [e for e in evaluation.corpus.test if evaluation.corpus.dataset.success[e]]
    monkeypatch.setattr(type(evaluation.corpus), "test", one)
    with pytest.raises(NotAvailable, match="do not contain both outcomes"):
        measure("success", evaluation)


def test_constant_rollouts_leave_success_on_encoder_latents(evaluation: Evaluation) -> None:
    assert summary(measure("success", with_constant_rollouts(evaluation)), "success_auc") == 1
