"""How far along the task is, told from single frames: a reward or a value has to be read out of latents, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from rslwm.data.clips import ClipBatch
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.aggregates import PEARSON
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, Need
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.probe import Draw, Probe, TrainedProbe
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.evals.windows import choose

PROGRESS = MetricInfo(
    name="progress_r",
    axis="representation",
    question="How far along is the task?",
    rung=3,
    higher_is_better=True,
    unit="Pearson r",
    aggregate=PEARSON,
    floor="the same guess for every frame of an episode",
    floor_value=0.0,
    ceiling="the true progress",
    ceiling_value=1.0,
    description="Correlation, within episodes, of the progress that a probe reads from single encoder latents with the "
    "true one: how near the target is to its goal or, where the data don't record that, the share of the episode done.",
)
_CLOSED, _OPEN = 0.0, 0.082
"""Metres that the simulator's drawer is to be open."""
_STILL = 1e-6


@dataclass(frozen=True)
class Progress:
    """Of every episode the progress (T,) at each of its frames; ``scale`` is its mean and deviation in training."""

    values: list[np.ndarray]
    scale: tuple[float, float]

    @classmethod
    def of(cls, corpus: Corpus) -> Self:
        """Minus the target's distance from its goal in metres, if that is known of every episode, else the share."""
        left = [remaining(corpus, episode) for episode in range(len(corpus.dataset))]
        known = [-way for way in left if way is not None]
        shares = [np.linspace(0.0, 1.0, int(length)) for length in corpus.dataset.lengths]
        values = known if len(known) == len(left) else shares
        seen = np.concatenate([values[episode] for episode in corpus.train])
        return cls(values, (float(seen.mean()), max(float(seen.std()), _STILL)))

    def at(self, frames: np.ndarray) -> Tensor:
        """Standardised (N, 1) at these places (N, 2) of (episode, frame)."""
        mean, std = self.scale
        return torch.tensor([[(self.values[e][t] - mean) / std] for e, t in frames.tolist()], dtype=torch.float32)


def remaining(corpus: Corpus, episode: int) -> np.ndarray | None:
    """How far (T,) the target is from where it has to go, in metres; None where the data don't tell."""
    task, states, names = corpus.dataset.info[episode], corpus.states[episode], corpus.dataset.state_names
    target, places = task.get("target"), names.get("object_position", [])
    if target == "drawer" and "drawer_opening" in states:
        goal = _OPEN if task.get("goal") == "open" else _CLOSED
        return np.abs(states["drawer_opening"][:, 0] - goal)
    if f"{target}_x" not in places or "goal_position" not in states:
        return None
    first = places.index(f"{target}_x")
    return np.linalg.norm(states["object_position"][:, first : first + 3] - states["goal_position"], axis=1)


@dataclass(frozen=True)
class ProgressProbe(Probe):
    """Reads one frame and predicts, standardised, how far along the task is."""

    name = "progress"

    def out(self, corpus: Corpus) -> int:
        return 1

    def batches(self, corpus: Corpus, latents: Readable, batch_size: int) -> Draw:
        progress, clips = Progress.of(corpus), corpus.clips(latents, 1)
        places = clips.windows(corpus.train)

        def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            batch = clips.sample(places, batch_size, g)
            target = progress.at(batch.windows)
            return batch.x.float(), target, torch.ones_like(target)

        return draw


@dataclass(frozen=True)
class ProgressConfig:
    """How far along the task is, read from single frames."""

    episodes: int = 64
    """Held-out episodes in which it is read, or as many as there are."""
    frames: int = 16
    """Frames of each, evenly spread."""
    noise: float = 0.2
    """Standard deviation of the noise added to the latents when the probe is trained: of courses of a task there is
    one an episode, and it would learn these by heart."""


@METRICS.register("progress")
class TaskProgress(Metric):
    infos = (PROGRESS,)
    core = False
    Config = ProgressConfig
    config: ProgressConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"probe": ProgressProbe(noise=self.config.noise)}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(read=self.config.episodes * self.config.frames)

    def measure(self, evaluation: Evaluation, probe: TrainedProbe) -> Iterator[Rows]:
        """What is read of an episode, and what is true, both without their mean over it: how far along an episode is
        beside others isn't asked."""
        batch = self._frames(evaluation)
        _, episode = np.unique(batch.windows[:, 0], return_inverse=True)
        told = probe.apply(batch.x, evaluation.compute)
        read, true = (x[:, 0].double().numpy() for x in (told, Progress.of(evaluation.corpus).at(batch.windows)))
        yield evaluation.rows(PROGRESS, batch.windows, within(read, episode), target=within(true, episode))

    def _frames(self, evaluation: Evaluation) -> ClipBatch:
        clips, lengths = evaluation.clips(1), evaluation.corpus.dataset.lengths
        firsts = np.array([[episode, 0] for episode in evaluation.corpus.test])
        chosen = choose(firsts, self.config.episodes, evaluation.seed, "progress")[:, 0]
        spread = [np.unique(np.linspace(0, lengths[e] - 1, self.config.frames).astype(int)) for e in chosen]
        return clips.batch(np.array([(e, t) for e, steps in zip(chosen, spread, strict=True) for t in steps]))


def within(x: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(N,) without the mean of each group (N,)."""
    return x - (np.bincount(group, x) / np.bincount(group))[group]
