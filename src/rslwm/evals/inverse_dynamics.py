"""Inverse dynamics: which action led from one latent to a later one (paper section 8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rslwm.data.clips import ClipBatch
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.aggregates import PEARSON, R2
from rslwm.evals.base import METRICS, ROLLOUTS, Load, Metric, MetricInfo, Need, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.probe import Draw, Probe, TrainedProbe
from rslwm.evals.rollouts import Rollouts, RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.evals.windows import strangers
from rslwm.types import Role

R_ENCODER = MetricInfo(
    name="idm_r",
    axis="representation",
    question="Which action was it?",
    rung=3,
    higher_is_better=True,
    unit="Pearson r",
    aggregate=PEARSON,
    floor="actions of other windows",
    ceiling="the true actions",
    description="Correlation of the actions that a probe reads from all tokens of two frozen encoder latents (protocol "
    "`nilaksh2026`) with the true ones; mean over dimensions.",
    ceiling_value=1.0,
)
R2_ENCODER = replace(
    R_ENCODER,
    name="idm_r2",
    unit="R²",
    aggregate=R2,
    scored=False,
    floor="predict the mean action",
    description="Share of the actions' variance that the same probe explains; unlike r it punishes a wrong scale.",
    floor_value=0.0,
    rows_of="idm_r",
)
R_GENERATED = replace(
    R_ENCODER,
    name="idm_r_generated",
    floor="hold the last context frame still: what the probe guesses where nothing was imagined",
    description="The same frozen probe on generated latents: are the commanded actions visible in what was imagined?",
)
R2_GENERATED = replace(
    R2_ENCODER,
    name="idm_r2_generated",
    description="R² of the frozen probe on generated latents.",
    rows_of="idm_r_generated",
)


@dataclass(frozen=True)
class InverseProbe(Probe):
    """Reads the frames t and t+k and predicts the k actions between."""

    k: int
    reads: ClassVar[int] = 2

    @property
    def name(self) -> str:
        return f"inverse-{self.k}"

    @property
    def span(self) -> int:
        return self.k + 1

    @property
    def about(self) -> int:
        return 7 * self.k

    def out(self, corpus: Corpus) -> int:
        return self.k * corpus.action_spec.dims

    def batches(self, corpus: Corpus, latents: Readable, batch_size: int) -> Draw:
        clips = corpus.clips(latents, self.span)
        places = clips.windows(corpus.train)
        if not len(places):
            raise NotAvailable(f"no training episode holds {self.span} frames")

        def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            batch = clips.sample(places, batch_size, g)
            target = batch.actions.flatten(1)
            return batch.x[:, [0, -1]].float(), target, torch.ones_like(target)

        return draw


@dataclass(frozen=True)
class InverseDynamicsConfig:
    """Actions read out of two latents."""

    windows: int = 256
    """Held-out windows that they are read from, of encoder latents."""
    horizons: tuple[int, ...] = (1, 4)
    """Kept frames between the two, a probe each."""


def pairs(evaluation: Evaluation, k: int, count: int) -> ClipBatch:
    """The held-out clips between whose first and last frame actions are read, the same for every way to read."""
    return evaluation.batch(k + 1, count, f"inverse dynamics {k}")


@METRICS.register("inverse_dynamics")
class InverseDynamics(Metric):
    infos = (R_ENCODER, R2_ENCODER, R_GENERATED, R2_GENERATED)
    Config = InverseDynamicsConfig
    config: InverseDynamicsConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"rollouts": ROLLOUTS, **{f"probe_{k}": InverseProbe(k) for k in self.config.horizons}}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(read=self.config.windows * sum(k + 1 for k in self.config.horizons))

    def measure(self, evaluation: Evaluation, rollouts: Rollouts, **probes: TrainedProbe) -> Iterator[Rows]:
        trained = {k: probes[f"probe_{k}"] for k in self.config.horizons}
        if all(probe.absent for probe in trained.values()):
            trained[self.config.horizons[0]].require()
        for k, probe in trained.items():
            if not probe.absent:
                yield from self._measure(evaluation, rollouts, probe, k)

    def _measure(self, evaluation: Evaluation, rollouts: Rollouts, probe: TrainedProbe, k: int) -> Iterator[Rows]:
        names, skip = np.array(evaluation.corpus.action_spec.names), evaluation.corpus.config.frame_skip

        def read(pair: Tensor) -> Tensor:
            """The actions (N, k, A) that lie between pairs of frames (N, 2, h, w, C)."""
            return probe.apply(pair, evaluation.compute).unflatten(1, (k, -1))

        def rows(info: MetricInfo, windows: np.ndarray, role: Role, found: Tensor, actions: Tensor) -> Rows:
            return evaluation.rows(info, windows, found, k=k, dim=names, role=role, target=actions)

        batch = pairs(evaluation, k, self.config.windows)
        found = read(batch.x[:, [0, -1]])
        shuffled = batch.actions[strangers(batch.windows, 1, evaluation.seed)[:, 0]]
        yield rows(R_ENCODER, batch.windows, "value", found, batch.actions)
        yield rows(R_ENCODER, batch.windows, "floor", found, shuffled)
        clip, still = rollouts.clip, read(rollouts.context[:, [-1, -1]])
        # Pairs end to end from the last context frame on: all their actions were imagined.
        for start in range(rollouts.context.shape[1] - 1, clip.shape[1] - k, k):
            windows = rollouts.windows + np.array([0, start * skip])
            actions = rollouts.actions[:, start : start + k]
            yield rows(R_GENERATED, windows, "value", read(clip[:, [start, start + k]]), actions)
            yield rows(R_GENERATED, windows, "floor", still, actions)
