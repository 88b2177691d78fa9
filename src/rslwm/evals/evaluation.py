"""Everything that the metrics of one latent space look at: held-out windows, rollouts made once, frozen probes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, device, generator
from rslwm.data.clips import ClipBatch, Clips
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.base import MetricInfo, NotAvailable
from rslwm.evals.grid_probe import ProbeConfig
from rslwm.evals.probes import Probes
from rslwm.latents.store import to_float
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.plan.base import PlanConfig
from rslwm.types import DataError, MetricRow


@dataclass(frozen=True)
class EvalConfig:
    """What is measured on the held-out episodes."""

    clips: int = 48
    context: int = 2
    """Real frames that a rollout starts from."""
    future: int = 8
    """Generated frames."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=4))
    encoder_windows: int = 256
    """Held-out windows (or frames) for metrics on encoder latents."""
    one_step_windows: int = 512
    """Held-out windows for the one-step error and for telling the true action from others."""
    other_actions: int = 7
    """Actions of other episodes that the true one is told from."""
    plan: PlanConfig = field(default_factory=lambda: PlanConfig(candidates=24, iterations=3, elites=6, windows=160))
    """A coarser search than the planner's own default: more windows say more about a space than closer plans."""
    plan_horizons: tuple[int, ...] = ()
    """Lengths of the plans that are measured; empty: plan.horizon alone."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    seed: int = 1234


@dataclass(frozen=True)
class Label:
    """The columns by which a row is told from another space's."""

    latent: str
    family: str
    size: str
    seed: int


@dataclass(frozen=True)
class Rollouts:
    """Clips of N held-out windows beside what the world model makes of them.

    ``true`` and ``generated`` are (N, F, h, w, C) latents of the future, ``context`` (N, T0, h, w, C), ``actions``
    (N, T0-1+F, A) normalised.
    """

    windows: np.ndarray
    context: Tensor
    true: Tensor
    generated: Tensor
    actions: Tensor

    @property
    def clip(self) -> Tensor:
        """(N, T0+F, h, w, C): real context, generated future."""
        return torch.cat([self.context, self.generated], 1)


@dataclass
class Evaluation:
    """One space under test. Windows depend on the evaluation seed only, so all spaces are measured on the same ones."""

    corpus: Corpus
    latents: Readable
    world_model: WorldModel
    probes: Probes
    config: EvalConfig
    compute: ComputeConfig
    label: Label
    costs: dict[str, float] = field(default_factory=dict)

    def row(self, info: MetricInfo, window: np.ndarray, value: float, **more: Any) -> MetricRow:
        """A row of this space for the window (episode, start)."""
        episode, start = window
        return MetricRow(
            **vars(self.label),
            metric=info.name,
            axis=info.axis,
            split="test",
            unit=self.corpus.dataset.ids[episode],
            window=int(start),
            value=float(value),
            higher_is_better=info.higher_is_better,
            **{"k": 0, **more},
        )

    # ------------------------------------------------------------------------------------------------ windows

    def clips(self, frames: int) -> Clips:
        return self.corpus.clips(self.latents, frames)

    def windows(self, frames: int, count: int, concern: str) -> np.ndarray:
        """At most ``count`` held-out windows, (N, 2), drawn without replacement and sorted.

        Raises:
            NotAvailable: no held-out episode is long enough.
        """
        places = self.clips(frames).windows(self.corpus.test)
        if not len(places):
            raise NotAvailable(f"no held-out episode holds {frames} frames {self.corpus.config.frame_skip} steps apart")
        return choose(places, count, self.config.seed, concern)

    @cached_property
    def future(self) -> int:
        """Generated frames F: as configured, or as many as half of the held-out episodes can hold.

        Raises:
            DataError: not even one.
        """
        skip = self.corpus.config.frame_skip
        typical = int(np.median(self.corpus.dataset.lengths[self.corpus.test]))
        longest = (typical - 1) // skip + 1 - self.config.context
        if longest < 1:
            raise DataError(
                f"half of the held-out episodes have {typical} steps or fewer: no future frame after "
                f"{self.config.context} context frames {skip} steps apart. Lower data.frame_skip."
            )
        return min(self.config.future, longest)

    # ----------------------------------------------------------------------------------------------- rollouts

    def generate(
        self, context: Tensor, actions: Tensor, concern: str, sampling: SamplingConfig | None = None
    ) -> Tensor:
        """Futures (N, F, h, w, C) of contexts (N, T0, h, w, C) under actions (N, T0-1+F, A)."""
        where = device(self.compute)
        g = generator(self.config.seed, concern)
        with torch.no_grad(), autocast(self.compute):
            parts = [
                self.world_model.rollout(c.to(where), a.to(where), sampling or self.config.sampling, g).float().cpu()
                for c, a in zip(context.split(64), actions.split(64), strict=True)
            ]
        return torch.cat(parts)

    def rollouts(self, batch: ClipBatch, concern: str) -> Rollouts:
        """Roll out every clip of a batch from its first ``context`` frames."""
        x = batch.x.float()
        context, true = x[:, : self.config.context], x[:, self.config.context :]
        generated = self.generate(context, batch.actions, concern)
        return Rollouts(batch.windows, context, true, generated, batch.actions)

    @cached_property
    def main(self) -> Rollouts:
        """The rollouts that fidelity, drift and probes on generated latents are measured on."""
        frames = self.config.context + self.future
        batch = self.clips(frames).batch(self.windows(frames, self.config.clips, "clips"))
        started = time.perf_counter()
        rollouts = self.rollouts(batch, "rollout noise")
        self.costs["rollout_seconds"] = (time.perf_counter() - started) / (len(batch.windows) * self.future)
        return rollouts

    def pixels(self, windows: np.ndarray, frames: int) -> Tensor:
        """True frames (N, T, H, W, 3) in [0, 1]."""
        return to_float(self.corpus.clips(self.corpus.frames, frames).batch(windows).x)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, T, h, w, C) -> (N, T, H, W, 3) in [0, 1]."""
        with torch.no_grad(), autocast(self.compute):
            parts = [self.world_model.decode(z.to(device(self.compute))).float().cpu() for z in latents.split(8)]
        return torch.cat(parts)


def choose(windows: np.ndarray, count: int, seed: int, concern: str) -> np.ndarray:
    """At most ``count`` of these windows (N, 2), without replacement, in their order."""
    drawn = torch.randperm(len(windows), generator=generator(seed, concern))[:count]
    return windows[np.sort(drawn.numpy())]


def others(windows: np.ndarray, seed: int) -> Tensor:
    """For each of the sorted windows (N, 2) the place (N,) of another one, to shuffle actions: a derangement."""
    return strangers(windows, 1, seed)[:, 0]


def strangers(windows: np.ndarray, count: int, seed: int) -> Tensor:
    """For each of the sorted windows (N, 2) the places (N, K) of ``count`` others, or of as many as there are.

    They are of other episodes unless one episode has half of the windows: neighbours' actions are much alike. Each is a
    rotation of all windows, so that every window serves as often as any other.
    """
    total = len(windows)
    most = int(np.unique(windows[:, 0], return_counts=True)[1].max())
    shifts = np.arange(most, total - most + 1) if 2 * most <= total else np.arange(1, total)
    drawn = torch.randperm(len(shifts), generator=generator(seed, "shuffle"))[:count]
    return (torch.arange(total)[:, None] - torch.from_numpy(shifts)[drawn]) % total
