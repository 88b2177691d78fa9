"""Success probe: is the task done at the end, told from encoder and from generated latents (paper section 8).

Beside it, what tells success without looking at the task: a label that follows from an episode's length, from where
the hand is or from the actions measures no representation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rslwm.data.clips import Clips
from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.probes import StateTargets, final_windows, labelled_clips, spread
from rslwm.types import MetricRow, Role

AUC = MetricInfo(
    name="success_auc",
    axis="representation",
    higher_is_better=True,
    unit="AUC",
    aggregate="auc",
    floor="always the majority",
    ceiling="the true label",
    description="Area under the ROC curve of the success probe on encoder latents of an episode's last frames.",
    floor_value=0.5,
    ceiling_value=1.0,
)
ACCURACY = replace(
    AUC,
    name="success_accuracy",
    unit="balanced accuracy",
    aggregate="balanced_accuracy",
    scored=False,
    description="Balanced accuracy of the success probe on encoder latents of an episode's last frames.",
    rows_of="success_auc",
)
STILL = "hold the last context frame still: what stands in it of the outcome already"
AUC_GENERATED = replace(
    AUC,
    name="success_auc_generated",
    floor=STILL,
    description="The same frozen probe on generated latents of the same episodes.",
    floor_value=None,
)
ACCURACY_GENERATED = replace(
    ACCURACY,
    name="success_accuracy_generated",
    floor=STILL,
    description="Balanced accuracy of the frozen probe on generated latents.",
    floor_value=None,
    rows_of="success_auc_generated",
)


@METRICS.register("success")
class Success(Metric):
    infos = (AUC, ACCURACY, AUC_GENERATED, ACCURACY_GENERATED)
    version = 2

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        evaluation.probes.require("success")
        clips, windows = _windows(evaluation, evaluation.corpus.test, "held-out")
        labels = _labels(evaluation, windows)
        if clips.frames <= evaluation.config.context:
            raise NotAvailable(
                f"the success probe's clip has {clips.frames} frames, and rollouts start from "
                f"{evaluation.config.context}. Raise evaluation.probe.success_frames."
            )
        rollouts = evaluation.rollouts(clips.batch(windows), "success rollouts")
        still = torch.cat([rollouts.context, rollouts.context[:, -1:].expand_as(rollouts.generated)], 1)
        seen: list[tuple[MetricInfo, Role, Tensor]] = [
            (AUC, "value", clips.batch(windows).x.float()),
            (AUC_GENERATED, "value", rollouts.clip),
            (AUC_GENERATED, "floor", still),
        ]
        for info, role, latents in seen:
            scores = evaluation.probes.apply("success", spread(latents), evaluation.compute).sigmoid()[:, 0]
            for window, score, label in zip(windows, scores.tolist(), labels.tolist(), strict=True):
                yield evaluation.row(info, window, score, target=label, role=role)


def _windows(evaluation: Evaluation, episodes: list[int], which: str) -> tuple[Clips, np.ndarray]:
    """The success probe's clips, and those (N, 2) that end with their episodes."""
    config = evaluation.config.probe
    clips = evaluation.clips(config.success_frames)
    return clips, final_windows(clips, labelled_clips(evaluation.corpus, config, episodes, which))


def _labels(evaluation: Evaluation, windows: np.ndarray) -> np.ndarray:
    return np.array([float(bool(evaluation.corpus.dataset.success[e])) for e in windows[:, 0]])


# --------------------------------------------------------------------------------------------------------- controls


_RIDGE = 0.1
"""Penalty on the slopes of standardised features, as a share of what the data weigh."""


class Control(Metric):
    """What a linear reader of something other than the task makes of the same windows, fitted on training episodes:
    whether much or little of it goes with success is learned, too."""

    def features(self, evaluation: Evaluation, clips: Clips, windows: np.ndarray) -> np.ndarray:
        """(N, Q) of windows (N, 2). Raises :class:`NotAvailable` where the data don't record it."""
        raise NotImplementedError

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        clips, seen = _windows(evaluation, evaluation.corpus.train, "training")
        _, windows = _windows(evaluation, evaluation.corpus.test, "held-out")
        known, asked = (self.features(evaluation, clips, places) for places in (seen, windows))
        scores = linear_scores(known, _labels(evaluation, seen), asked)
        for window, score, label in zip(windows, scores.tolist(), _labels(evaluation, windows).tolist(), strict=True):
            yield evaluation.row(self.infos[0], window, score, target=label)


def linear_scores(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Scores (M,) of features (M, Q) by a ridge regression of labels (N,), which weigh the same, on features (N, Q)."""
    mean, std = features.mean(0), np.maximum(features.std(0), 1e-6)
    x, asked = (features - mean) / std, (asked - mean) / std
    weights = np.where(labels > 0.5, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    x -= np.average(x, axis=0, weights=weights)
    slope = np.linalg.solve(
        (x.T * weights) @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (weights * (labels - 0.5))
    )
    return asked @ slope


def _control(name: str, what: str) -> tuple[MetricInfo]:
    description = f"A control: area under the ROC curve of {what} alone. Near 0.5 it tells nothing of success."
    return (replace(AUC, name=f"success_auc_{name}", scored=False, description=description),)


@METRICS.register("success_length")
class Length(Control):
    infos = _control("length", "an episode's length")

    def features(self, evaluation: Evaluation, clips: Clips, windows: np.ndarray) -> np.ndarray:
        return evaluation.corpus.dataset.lengths[windows[:, :1]].astype(float)


@METRICS.register("success_height")
class Height(Control):
    infos = _control("height", "the gripper's height in the last frame")

    def features(self, evaluation: Evaluation, clips: Clips, windows: np.ndarray) -> np.ndarray:
        targets = StateTargets.of(evaluation.corpus)
        if not targets.records("gripper"):
            raise NotAvailable("the data record no gripper position")
        return targets.at(windows + np.array([0, (clips.frames - 1) * clips.skip]))[0][:, 2:3].double().numpy()


@METRICS.register("success_actions")
class Actions(Control):
    infos = _control("actions", "the actions that a rollout is given")

    def features(self, evaluation: Evaluation, clips: Clips, windows: np.ndarray) -> np.ndarray:
        return clips.batch(windows).actions.flatten(1).double().numpy()
