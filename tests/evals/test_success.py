"""The success probe, and data that can't be asked about success."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from measured import Subject, measure, metric_infos, select, summary, with_constant_rollouts
from point_world import PointWorldModel, write_corpus, write_latents
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.base import NotAvailable
from rslwm.evals.probe import ProbeConfig, TrainedProbe, train_probe
from rslwm.evals.success import SuccessProbe, final_windows, labelled_clips, left_out, linear_scores, spread
from rslwm.optim import OptimConfig


def test_a_perfect_probe_ranks_and_decides_perfectly(evaluation: Subject) -> None:
    rows = measure("success", evaluation)
    for metric in ("success_auc", "success_accuracy", "success_auc_generated", "success_accuracy_generated"):
        assert summary(rows, metric) == 1
        assert len(select(rows, metric)) == len(evaluation.corpus.test)


def test_rollouts_that_ignore_actions_do_not_know_the_end(evaluation: Subject) -> None:
    """The gripper closes in the last steps, so that only a rollout that obeys shows it."""
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    rows = measure("success", evaluation)
    clips = evaluation.clips(7)
    windows = final_windows(clips, evaluation.corpus.test)
    before = clips.batch(windows).x[:, 1, 0, 0, 3].float()  # the gripper in the last frame of the context
    scores = [row.value for row in select(rows, "success_auc_generated")]
    assert scores == pytest.approx((-4 * before).sigmoid().tolist(), abs=1e-5)
    assert summary(rows, "success_auc") == 1


def test_final_windows_end_with_their_episodes(corpus: Corpus, point_latents: TensorStore) -> None:
    clips = corpus.clips(point_latents, 7)
    windows = final_windows(clips, corpus.test)
    lengths = corpus.dataset.lengths[windows[:, 0]]
    last = windows[:, 1] + (clips.frames - 1) * corpus.config.frame_skip
    assert (last == lengths - 1).all()
    assert windows[:, 0].tolist() == corpus.test
    near = final_windows(clips, corpus.test, slack=1)
    assert len(near) == sum(1 + min(1, start) for start in windows[:, 1])
    assert spread(clips.batch(windows).x).shape[1] == 3


def test_episodes_shorter_than_the_clip_are_left_out_and_counted(evaluation: Subject) -> None:
    """One short episode must not shorten the clips of all others. Episodes have 14 to 18 steps; 8 frames take 15."""
    corpus, lengths = evaluation.corpus, evaluation.corpus.dataset.lengths
    kept = labelled_clips(corpus, 8, corpus.train, "training")
    assert kept == [e for e in corpus.train if lengths[e] >= 15]
    short = (lengths < 15).sum()
    assert left_out(corpus, 8, range(12)).startswith(f"{short} of 12 labelled episodes are shorter than")
    assert not left_out(corpus, 8, kept)
    evaluation.set("success", frames=8)
    units = {row.unit for row in select(measure("success", evaluation), "success_auc")}
    assert units == {corpus.dataset.ids[e] for e in corpus.test if lengths[e] >= 15}


@pytest.fixture
def trained(compute: ComputeConfig, tmp_path: Path) -> Callable[..., TrainedProbe]:
    """What becomes of a success probe on a corpus."""

    def train(corpus: Corpus, latents: TensorStore, frames: int = 7) -> TrainedProbe:
        config = ProbeConfig(width=8, optim=OptimConfig(steps=1))
        return train_probe(SuccessProbe(frames), corpus, latents, config, 0, tmp_path / "probe", compute)

    return train


def test_left_out_episodes_are_counted_in_the_log(
    corpus: Corpus, point_latents: TensorStore, trained: Callable[..., TrainedProbe], caplog: pytest.LogCaptureFixture
) -> None:
    assert not trained(corpus, point_latents, frames=8).absent
    assert "labelled episodes are shorter than the success probe's clip of 8 frames 2 steps apart" in caplog.text


def test_too_few_long_episodes_are_said_with_the_setting(
    corpus: Corpus, point_latents: TensorStore, trained: Callable[..., TrainedProbe]
) -> None:
    with pytest.raises(NotAvailable, match=r"no episode is left; 8 of 8 .* Lower evaluation\.success\.frames\."):
        trained(corpus, point_latents, frames=30).require()


def test_without_labels_success_is_unavailable_and_not_zero(
    unlabelled: Corpus, trained: Callable[..., TrainedProbe], tmp_path: Path, evaluation: Subject
) -> None:
    latents = write_latents(unlabelled, tmp_path / "latents")
    evaluation = replace(evaluation, corpus=unlabelled, latents=latents)
    evaluation.probes["success"] = trained(unlabelled, latents)
    with pytest.raises(NotAvailable, match="the data have no success labels"):
        measure("success", evaluation)


def test_one_outcome_only_is_said_by_its_label(tmp_path: Path, trained: Callable[..., TrainedProbe]) -> None:
    corpus = write_corpus(tmp_path, [None, True, True, True])
    found = trained(corpus, write_latents(corpus, tmp_path / "latents"))
    assert found.absent == "every labelled training episode has success = True"


def test_held_out_episodes_of_one_outcome_cannot_rank(evaluation: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    one = [e for e in evaluation.corpus.test if evaluation.corpus.dataset.success[e]]
    monkeypatch.setattr(type(evaluation.corpus), "test", one)
    with pytest.raises(NotAvailable, match="every labelled held-out episode has success = True"):
        measure("success", evaluation)


def test_constant_rollouts_leave_success_on_encoder_latents(evaluation: Subject) -> None:
    assert summary(measure("success", with_constant_rollouts(evaluation)), "success_auc") == 1


# --------------------------------------------------------------------------------------------------------- controls


def with_heights(evaluation: Subject, height: Callable[[bool], float], monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = evaluation.corpus
    states = [
        {**known, "gripper_position": np.full_like(known["gripper_position"], height(bool(success)))}
        for known, success in zip(corpus.states, corpus.dataset.success, strict=True)
    ]
    monkeypatch.setitem(vars(corpus), "states", states)  # a cached property


@pytest.mark.parametrize("sign", [1, -1])
def test_a_height_that_tells_success_is_caught_either_way(
    sign: int, evaluation: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_heights(evaluation, lambda success: sign * float(success), monkeypatch)
    rows = measure("success_height", evaluation)
    assert summary(rows, "success_auc_height") == 1
    assert len(rows) == len(evaluation.corpus.test)


def test_a_height_that_tells_nothing_is_at_chance(evaluation: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    with_heights(evaluation, lambda success: 0.1, monkeypatch)
    assert summary(measure("success_height", evaluation), "success_auc_height") == 0.5


@pytest.mark.parametrize("longer", [True, False])
def test_a_length_that_tells_success_is_caught_either_way(
    longer: bool, evaluation: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = evaluation.corpus.dataset
    monkeypatch.setattr(dataset, "success", [bool(length > 15) == longer for length in dataset.lengths])
    assert summary(measure("success_length", evaluation), "success_auc_length") == 1


def test_actions_that_tell_success_are_caught(evaluation: Subject, tmp_path: Path) -> None:
    """In this world success is closing the gripper."""
    corpus = write_corpus(tmp_path, [bool(i % 2) for i in range(40)])
    evaluation = replace(evaluation, corpus=corpus, latents=write_latents(corpus, tmp_path / "latents"))
    assert summary(measure("success_actions", evaluation), "success_auc_actions") > 0.9


def test_controls_are_not_scored() -> None:
    infos = metric_infos()
    assert not any(infos[f"success_auc_{name}"].scored for name in ("height", "length", "actions"))


def test_a_linear_reader_weighs_both_outcomes_alike() -> None:
    draw = np.random.default_rng(0)
    labels = (np.arange(200) % 10 == 0).astype(float)  # one in ten
    features = draw.normal(size=(200, 3)) + np.outer(labels, [2.0, 0.0, 0.0])
    scores = linear_scores(features, labels, np.array([[2.0, 0, 0], [0.0, 0, 0]]))
    assert scores[0] > 0 > scores[1]
