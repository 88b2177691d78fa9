"""Inverse dynamics: which action led from one latent to a later one (paper section 8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation, others
from rslwm.types import MetricRow

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
)
R_GENERATED = replace(
    R_ENCODER,
    name="idm_r_generated",
    description="The same frozen probe on generated latents: are the commanded actions visible in what was imagined?",
)
R2_GENERATED = replace(R2_ENCODER, name="idm_r2_generated", description="R² of the frozen probe on generated latents.")


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
        yield from self._rows(evaluation, k, batch.x[:, [0, -1]], batch.actions, windows, (R_ENCODER, R2_ENCODER))

    def _generated(self, evaluation: Evaluation, k: int) -> Iterator[MetricRow]:
        """Pairs of frames k apart, end to end from the last context frame on: all their actions were imagined."""
        rollouts, context = evaluation.main, evaluation.config.context
        clip = rollouts.clip
        for start in range(context - 1, clip.shape[1] - k, k):
            windows = rollouts.windows.copy()
            windows[:, 1] += start * evaluation.corpus.config.frame_skip
            pair, actions = clip[:, [start, start + k]], rollouts.actions[:, start : start + k]
            yield from self._rows(evaluation, k, pair, actions, windows, (R_GENERATED, R2_GENERATED))

    @staticmethod
    def _rows(
        evaluation: Evaluation,
        k: int,
        pair: Tensor,
        actions: Tensor,
        windows: np.ndarray,
        infos: tuple[MetricInfo, MetricInfo],
    ) -> Iterator[MetricRow]:
        """Rows for pairs (N, 2, h, w, C) and the actions between them (N, k, A)."""
        guess = evaluation.probes.apply(f"inverse-{k}", pair, evaluation.compute).reshape(actions.shape)
        shuffled = actions[others(windows, evaluation.config.seed)]
        r, r2 = infos
        for i, window in enumerate(windows):
            for j in range(k):
                for d, name in enumerate(evaluation.corpus.action_spec.names):
                    value, target = float(guess[i, j, d]), float(actions[i, j, d])
                    yield evaluation.row(r, window, value, target=target, k=k, dim=name)
                    yield evaluation.row(r2, window, value, target=target, k=k, dim=name)
                    yield evaluation.row(r, window, value, target=float(shuffled[i, j, d]), k=k, dim=name, role="floor")
