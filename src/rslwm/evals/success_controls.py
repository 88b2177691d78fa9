"""What tells success without looking at the task: a label that follows from an episode's length, from where the hand is
or from the actions measures no representation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rslwm.data.clips import Clips
from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.readout import StateTargets
from rslwm.evals.rows import Rows
from rslwm.evals.success import SUCCESS_AUC, SuccessConfig, at_the_end, labels_of

_RIDGE = 0.1
"""Penalty on the slopes of standardised features, as a share of what the data weigh."""


class Control(Metric):
    """What a linear reader of something other than the task makes of the same windows, fitted on training episodes:
    whether much or little of it goes with success is learned, too."""

    Config = SuccessConfig
    config: SuccessConfig

    def features(self, evaluation: Evaluation, clips: Clips, windows: np.ndarray) -> np.ndarray:
        """(N, Q) of windows (N, 2). Raises :class:`NotAvailable` where the data don't record it."""
        raise NotImplementedError

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        corpus, frames = evaluation.corpus, self.config.frames
        clips, seen = at_the_end(evaluation, frames, corpus.train, "training")
        _, windows = at_the_end(evaluation, frames, corpus.test, "held-out")
        known, asked = (self.features(evaluation, clips, places) for places in (seen, windows))
        scores = linear_scores(known, labels_of(corpus, seen), asked)
        yield evaluation.rows(self.infos[0], windows, scores, target=labels_of(corpus, windows))


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
    return (replace(SUCCESS_AUC, name=f"success_auc_{name}", scored=False, description=description),)


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
