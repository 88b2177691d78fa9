"""Success probe: is the task done at the end, told from encoder and from generated latents (paper section 8)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.data.clips import Clips
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.aggregates import AUC, BALANCED_ACCURACY
from rslwm.evals.base import METRICS, ROLLOUTS, Metric, MetricInfo, Need, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.probe import Draw, Probe, TrainedProbe
from rslwm.evals.readout import StateTargets
from rslwm.evals.rollouts import Rollouts, roll_out
from rslwm.evals.rows import Rows
from rslwm.types import Role

log = logging.getLogger(__name__)

SUCCESS_AUC = MetricInfo(
    name="success_auc",
    axis="representation",
    question="Is the task done?",
    rung=3,
    higher_is_better=True,
    unit="AUC",
    aggregate=AUC,
    floor="always the majority",
    ceiling="the true label",
    description="Area under the ROC curve of the success probe on encoder latents of an episode's last frames.",
    floor_value=0.5,
    ceiling_value=1.0,
)
SUCCESS_ACCURACY = replace(
    SUCCESS_AUC,
    name="success_accuracy",
    unit="balanced accuracy",
    aggregate=BALANCED_ACCURACY,
    scored=False,
    description="Balanced accuracy of the success probe on encoder latents of an episode's last frames.",
    rows_of="success_auc",
)
STILL = "hold the last context frame still: what stands in it of the outcome already"
AUC_GENERATED = replace(
    SUCCESS_AUC,
    name="success_auc_generated",
    floor=STILL,
    description="The same frozen probe on generated latents of the same episodes.",
    floor_value=None,
)
ACCURACY_GENERATED = replace(
    SUCCESS_ACCURACY,
    name="success_accuracy_generated",
    floor=STILL,
    description="Balanced accuracy of the frozen probe on generated latents.",
    floor_value=None,
    rows_of="success_auc_generated",
)


SLACK = 4
"""A training clip ends at most this many recorded steps before its episode."""
_RIDGE = 0.1
"""Penalty on the slopes of a control's standardised features, as a share of what the data weigh."""


@dataclass(frozen=True)
class SuccessProbe(Probe):
    """Reads the first, the middle and the last frame of a clip at an episode's end and predicts its label."""

    frames: int
    reads: ClassVar[int] = 3
    name = "success"

    @property
    def span(self) -> int:
        return self.frames

    def out(self, corpus: Corpus) -> int:
        return 1

    def batches(self, corpus: Corpus, latents: Readable, batch_size: int) -> Draw:
        """Clips that end in an episode's last steps; both outcomes weigh the same."""
        episodes = labelled_clips(corpus, self.frames, corpus.train, "training")
        if short := left_out(corpus, self.frames, range(len(corpus.dataset))):
            log.warning(short)
        clips = corpus.clips(latents, self.frames)
        places = final_windows(clips, episodes, SLACK)
        share = labels_of(corpus, places).astype(np.float32).mean()

        def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            batch = clips.sample(places, batch_size, g)
            target = torch.from_numpy(labels_of(corpus, batch.windows)).float()[:, None]
            weight = torch.where(target > 0.5, 0.5 / share, 0.5 / (1 - share))
            return spread(batch.x).float(), target, weight

        return draw

    def loss(self, guess: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(guess, target, weight=weight)


def labelled_clips(corpus: Corpus, frames: int, episodes: list[int], which: str) -> list[int]:
    """Those of the episodes that have a success label and hold a clip of so many frames.

    The clip is equally long for all: were it as long as its episode, or as the shortest one, its content would tell
    lengths, and one short episode would blind the probe to all others.

    Raises:
        NotAvailable: there are none, or all have the same label; ``which`` names the episodes.
    """
    labels = corpus.dataset.success
    labelled = [e for e in episodes if labels[e] is not None]
    if not labelled:
        raise NotAvailable("the data have no success labels")
    kept = [e for e in labelled if corpus.dataset.lengths[e] >= _steps(corpus, frames)]
    if len({labels[e] for e in kept}) == 2:
        return kept
    reason = f"every labelled {which} episode has success = {labels[kept[0]]}" if kept else "no episode is left"
    short = left_out(corpus, frames, labelled)
    raise NotAvailable(f"{reason}; {short}. Lower evaluation.success.frames." if short else reason)


def left_out(corpus: Corpus, frames: int, episodes: Sequence[int]) -> str:
    """How many labelled ones of the episodes the success probe can't use; empty if it can use all."""
    lengths = [corpus.dataset.lengths[e] for e in episodes if corpus.dataset.success[e] is not None]
    short = sum(length < _steps(corpus, frames) for length in lengths)
    clip = f"the success probe's clip of {frames} frames {corpus.config.frame_skip} steps apart"
    return f"{short} of {len(lengths)} labelled episodes are shorter than {clip} and left out" if short else ""


def _steps(corpus: Corpus, frames: int) -> int:
    """Recorded steps of a clip of so many frames."""
    return (frames - 1) * corpus.config.frame_skip + 1


def final_windows(clips: Clips, episodes: list[int], slack: int = 0) -> np.ndarray:
    """Windows (N, 2) of clips that end at most ``slack`` steps before their episode's end."""
    places = clips.windows(episodes)
    last = np.array([len(clips.actions[e]) for e in places[:, 0]]) - 1 - (clips.frames - 1) * clips.skip
    return places[places[:, 1] >= last - slack]


def spread(x: Tensor) -> Tensor:
    """First, middle and last frame of (B, T, ...)."""
    return x[:, [0, x.shape[1] // 2, -1]]


def labels_of(corpus: Corpus, windows: np.ndarray) -> np.ndarray:
    """1 where the episode of a window (N, 2) succeeded, else 0."""
    return np.array([float(bool(corpus.dataset.success[e])) for e in windows[:, 0]])


def at_the_end(evaluation: Evaluation, frames: int, episodes: list[int], which: str) -> tuple[Clips, np.ndarray]:
    """Clips of so many frames, and those (N, 2) that end with their episodes; raises as :func:`labelled_clips`."""
    clips = evaluation.clips(frames)
    return clips, final_windows(clips, labelled_clips(evaluation.corpus, frames, episodes, which))


@dataclass(frozen=True)
class SuccessConfig:
    """Whether the task is done, read from an episode's last frames, and what else tells it."""

    frames: int = 10
    """Frames of the clip, at an episode's end, of which the success probe reads the first, the middle and the last.
    Shorter episodes are left out."""
    noise: float = 1.0
    """Standard deviation of the noise added to the latents when the success probe is trained: of labels there is one an
    episode, and it would learn these by heart."""


@METRICS.register("success")
class Success(Metric):
    infos = (SUCCESS_AUC, SUCCESS_ACCURACY, AUC_GENERATED, ACCURACY_GENERATED)
    version = 2
    Config = SuccessConfig
    config: SuccessConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"rollouts": ROLLOUTS, "probe": SuccessProbe(self.config.frames, noise=self.config.noise)}

    def measure(self, evaluation: Evaluation, rollouts: Rollouts, probe: TrainedProbe) -> Iterator[Rows]:
        """The last frames of episodes are rolled out here, from as much context and in the way of ``rollouts``."""
        probe.require()
        clips, windows = at_the_end(evaluation, self.config.frames, evaluation.corpus.test, "held-out")
        labels, context = labels_of(evaluation.corpus, windows), rollouts.context.shape[1]
        if clips.frames <= context:
            short = f"the success probe's clip has {clips.frames} frames, and rollouts start from {context}"
            raise NotAvailable(f"{short}. Raise evaluation.success.frames.")
        batch = clips.batch(windows)
        ends = roll_out(evaluation, batch, context, rollouts.sampling, "success rollouts")
        still = torch.cat([ends.context, ends.context[:, -1:].expand_as(ends.generated)], 1)
        seen: list[tuple[MetricInfo, Role, Tensor]] = [
            (SUCCESS_AUC, "value", batch.x.float()),
            (AUC_GENERATED, "value", ends.clip),
            (AUC_GENERATED, "floor", still),
        ]
        for info, role, latents in seen:
            scores = probe.apply(spread(latents), evaluation.compute).sigmoid()[:, 0]
            yield evaluation.rows(info, windows, scores, role=role, target=labels)


class Control(Metric):
    """What tells success without looking at the task: a label that follows from an episode's length, from where the
    hand is or from the actions measures no representation.

    A linear reader of such features is fitted on training episodes, so whether much or little of them goes with success
    is learned, too."""

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
