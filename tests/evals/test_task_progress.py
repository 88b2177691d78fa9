"""How far along a task is: its truth, what is read of it, and defects."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from measured import Subject, measure, progress, select, summary
from point_world import PointWorldModel, Recalls, write_corpus, write_latents
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.evals.probe import ProbeConfig, TrainedProbe, train_probe
from rslwm.evals.progress import Progress, ProgressProbe, remaining, within
from rslwm.optim import OptimConfig


def reading(evaluation: Subject, told: Sequence[Tensor]) -> float:
    """The metric where this is told of every frame of every episode."""
    evaluation.probes["progress"] = Recalls(evaluation.corpus, evaluation.latents, told)  # type: ignore[arg-type]
    return summary(measure("progress", evaluation), "progress_r")


def test_the_true_progress_is_perfect(evaluation: Subject) -> None:
    assert summary(measure("progress", evaluation), "progress_r") == pytest.approx(1)


def test_scale_and_origin_of_an_episode_don_t_matter(evaluation: Subject) -> None:
    assert reading(evaluation, [7 + 3 * x for x in progress(evaluation.corpus)]) == pytest.approx(1)


def test_which_episode_it_is_tells_nothing(evaluation: Subject) -> None:
    """A probe that knows an episode's length, or how hard it is, knows no progress."""
    assert reading(evaluation, [x.mean().expand_as(x) for x in progress(evaluation.corpus)]) == 0


def test_time_backwards_is_the_opposite(evaluation: Subject) -> None:
    assert reading(evaluation, [x.flip(0) for x in progress(evaluation.corpus)]) == pytest.approx(-1)


def test_time_shifted_is_less(evaluation: Subject) -> None:
    assert reading(evaluation, [x.roll(2, 0) for x in progress(evaluation.corpus)]) < 0.7


def test_it_is_the_correlation_within_episodes(evaluation: Subject) -> None:
    """By scipy, with an episode's mean taken out by a regression on dummies."""
    g = torch.Generator().manual_seed(0)
    found = reading(evaluation, [x + torch.randn(x.shape, generator=g) for x in progress(evaluation.corpus)])
    rows = select(measure("progress", evaluation), "progress_r")
    value, target = (np.array([getattr(row, name) for row in rows]) for name in ("value", "target"))
    dummies = np.array([[row.unit == unit for unit in sorted({r.unit for r in rows})] for row in rows], float)
    value, target = (x - dummies @ np.linalg.lstsq(dummies, x, rcond=None)[0] for x in (value, target))
    assert found == pytest.approx(scipy.stats.pearsonr(value, target).statistic)


def test_without_goals_it_is_the_share_of_the_episode(corpus: Corpus) -> None:
    values = Progress.of(corpus).values
    assert all((x[0], x[-1]) == (0, 1) for x in values)
    assert [len(x) for x in values] == corpus.dataset.lengths.tolist()
    seen = torch.cat([progress(corpus)[e] for e in corpus.train])
    assert (float(seen.mean()), float(seen.std(unbiased=False))) == pytest.approx((0, 1), abs=1e-5)


def a_corpus(info: dict[str, Any], states: dict[str, np.ndarray]) -> Any:
    names = {"object_position": ["red_x", "red_y", "red_z", "blue_x", "blue_y", "blue_z"]}
    return SimpleNamespace(dataset=SimpleNamespace(info=[info], state_names=names), states=[states])


def test_the_way_left_is_from_the_target_to_its_goal() -> None:
    objects = np.array([[9.0, 9, 9, 0, 0, 0], [9, 9, 9, 0, 3, 4]])
    states = {"object_position": objects, "goal_position": np.array([[0.0, 3, 4]] * 2)}
    assert remaining(a_corpus({"target": "blue"}, states), 0).tolist() == [5, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize(("goal", "left"), [("open", [0.082, 0.012]), ("closed", [0.0, 0.07])])
def test_a_drawer_s_way_is_its_opening(goal: str, left: list[float]) -> None:
    states = {"drawer_opening": np.array([[0.0], [0.07]])}
    assert remaining(a_corpus({"target": "drawer", "goal": goal}, states), 0).tolist() == pytest.approx(left)  # type: ignore[union-attr]


@pytest.mark.parametrize("info", [{}, {"target": "green"}])
def test_an_unknown_target_has_no_way(info: dict[str, Any]) -> None:
    assert (
        remaining(a_corpus(info, {"object_position": np.zeros((2, 6)), "goal_position": np.zeros((2, 3))}), 0) is None
    )


def test_the_mean_of_every_group_is_taken_out() -> None:
    assert within(np.array([1.0, 3, 10]), np.array([0, 0, 1])).tolist() == [-1, 1, 0]


def train(corpus: Corpus, folder: Path, compute: ComputeConfig) -> float:
    """What a trained probe makes of episodes whose gripper closes bit by bit."""
    ramps = [np.column_stack([a[:, :3] * 0, np.linspace(0, 1, len(a))]).astype(np.float32) for a in corpus.actions]
    vars(corpus)["actions"] = ramps
    latents = write_latents(corpus, folder / "latents")
    config = ProbeConfig(width=8, optim=OptimConfig(steps=80, batch_size=32, lr=1e-2, warmup=5))
    probe: TrainedProbe = train_probe(ProgressProbe(noise=0.1), corpus, latents, config, 0, folder / "probe", compute)
    assert not probe.absent
    return probe, latents  # type: ignore[return-value]


@pytest.mark.parametrize("permuted", [False, True])
def test_a_trained_probe_reads_it_and_permuted_labels_give_chance(
    permuted: bool, evaluation: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path, [bool(i % 2) for i in range(20)])
    if permuted:
        draw, honest = np.random.default_rng(0), Progress.of(corpus)
        lies = Progress([draw.permutation(x) for x in honest.values], honest.scale)
        monkeypatch.setattr(Progress, "of", classmethod(lambda cls, corpus: lies))
    probe, latents = train(corpus, tmp_path, evaluation.compute)  # type: ignore[misc]
    subject = replace(evaluation, corpus=corpus, latents=latents, world_model=PointWorldModel())
    subject.probes["progress"] = probe
    found = summary(measure("progress", subject), "progress_r")
    assert abs(found) < 0.35 if permuted else found > 0.9
