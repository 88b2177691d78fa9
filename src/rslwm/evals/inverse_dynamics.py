"""Inverse dynamics: which action led from one latent to a later one (paper section 8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation, others
from rslwm.types import MetricRow, Role

R_ENCODER = MetricInfo(
    name="idm_r",
    axis="representation",
    higher_is_better=True,
    unit="Pearson r",
    aggregate="pearson",
    floor="actions of other windows",
    ceiling="the true actions",
    description="Correlation of the actions that a probe reads from two encoder latents with the true ones; mean over "
    "dimensions.",
    ceiling_value=1.0,
)
R2_ENCODER = replace(
    R_ENCODER,
    name="idm_r2",
    unit="R²",
    aggregate="r2",
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


@METRICS.register("inverse_dynamics")
class InverseDynamics(Metric):
    infos = (R_ENCODER, R2_ENCODER, R_GENERATED, R2_GENERATED)

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        available = [k for k in evaluation.config.probe.horizons if f"inverse-{k}" in evaluation.probes.modules]
        if not available:
            raise NotAvailable(evaluation.probes.absent[f"inverse-{evaluation.config.probe.horizons[0]}"])
        for k in available:
            yield from self._encoder(evaluation, k)
            yield from self._generated(evaluation, k)

    def _encoder(self, evaluation: Evaluation, k: int) -> Iterator[MetricRow]:
        windows = evaluation.windows(k + 1, evaluation.config.encoder_windows, f"inverse dynamics {k}")
        batch = evaluation.clips(k + 1).batch(windows)
        guess = self._read(evaluation, k, batch.x[:, [0, -1]])
        shuffled = batch.actions[others(windows, evaluation.config.seed)]
        yield from self._rows(evaluation, R_ENCODER, windows, guess, batch.actions)
        yield from self._rows(evaluation, R_ENCODER, windows, guess, shuffled, "floor")

    def _generated(self, evaluation: Evaluation, k: int) -> Iterator[MetricRow]:
        """Pairs of frames k apart, end to end from the last context frame on: all their actions were imagined."""
        rollouts, context = evaluation.main, evaluation.config.context
        clip = rollouts.clip
        still = self._read(evaluation, k, rollouts.context[:, [-1, -1]])
        for start in range(context - 1, clip.shape[1] - k, k):
            windows = rollouts.windows.copy()
            windows[:, 1] += start * evaluation.corpus.config.frame_skip
            pair, actions = clip[:, [start, start + k]], rollouts.actions[:, start : start + k]
            yield from self._rows(evaluation, R_GENERATED, windows, self._read(evaluation, k, pair), actions)
            yield from self._rows(evaluation, R_GENERATED, windows, still, actions, "floor")

    @staticmethod
    def _read(evaluation: Evaluation, k: int, pair: Tensor) -> Tensor:
        """The actions (N, k, A) that the probe reads from pairs of frames (N, 2, h, w, C)."""
        return evaluation.probes.apply(f"inverse-{k}", pair, evaluation.compute).unflatten(1, (k, -1))

    @staticmethod
    def _rows(
        evaluation: Evaluation,
        info: MetricInfo,
        windows: np.ndarray,
        guess: Tensor,
        actions: Tensor,
        role: Role = "value",
    ) -> Iterator[MetricRow]:
        """Rows of guessed and of compared actions, both (N, k, A)."""
        names, k = evaluation.corpus.action_spec.names, actions.shape[1]
        for window, values, targets in zip(windows, guess.tolist(), actions.tolist(), strict=True):
            for read, done in zip(values, targets, strict=True):
                for name, value, target in zip(names, read, done, strict=True):
                    yield evaluation.row(info, window, value, target=target, k=k, dim=name, role=role)
