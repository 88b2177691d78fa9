"""How much of an action is linear in what changes: canonical correlations of pooled latent differences with actions.

In closed form, so no reader's size or training can be to blame (as in the representation analysis of world models'
latents by CCA; Hotelling 1936).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from rslwm.data.clips import ClipBatch
from rslwm.evals.aggregates import PEARSON
from rslwm.evals.base import METRICS, Load, Metric, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.inverse_dynamics import R_ENCODER, pairs
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.evals.windows import choose, strangers

CCA = replace(
    R_ENCODER,
    name="cca",
    scored=False,
    unit="canonical correlation",
    aggregate=PEARSON,
    floor="actions of other windows",
    description="Mean canonical correlation between differences of mean-pooled latents, reduced to their principal "
    "components, and the actions between; directions of training episodes, correlations of held-out ones.",
)
_RANK = 1e-6
"""Directions whose standard deviation is a smaller share of the largest aren't there: a rotation never commanded."""


@dataclass(frozen=True)
class CcaConfig:
    """Canonical correlations of changes in latents with actions."""

    windows: int = 256
    """Held-out windows that are correlated; as many as inverse_dynamics.windows makes them the same ones."""
    training: int = 2048
    """Windows of training episodes that the directions are found in."""
    components: int = 32
    """Principal components that differences of latents are reduced to."""


@dataclass(frozen=True)
class Canonical:
    """Directions of x (N, P) and of y (N, Q) that are correlated most: (P, n) and (Q, n), the strongest first, for
    unit variance, with the correlations (n,) of what they were found in."""

    x_mean: np.ndarray
    y_mean: np.ndarray
    x_directions: np.ndarray
    y_directions: np.ndarray
    correlations: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, components: int) -> Self:
        """Found in x and y; of x at most so many principal components are kept."""
        (x_mean, x_white), (y_mean, y_white) = _whitening(x, components), _whitening(y, y.shape[1])
        cross = ((x - x_mean) @ x_white).T @ ((y - y_mean) @ y_white) / len(x)
        left, correlations, right = np.linalg.svd(cross, full_matrices=False)
        return cls(x_mean, y_mean, x_white @ left, y_white @ right.T, correlations)

    def variates(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and y along the directions, (M, n) each."""
        return (x - self.x_mean) @ self.x_directions, (y - self.y_mean) @ self.y_directions


def _whitening(x: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of (N, P), and the (P, n) that make its principal components uncorrelated and of unit variance."""
    mean = x.mean(0)
    _, scale, axes = np.linalg.svd(x - mean, full_matrices=False)
    kept = np.flatnonzero(scale > _RANK * scale[:1])[:components]
    return mean, axes[kept].T / scale[kept] * len(x) ** 0.5


@METRICS.register("cca")
class CanonicalCorrelation(Metric):
    infos = (CCA,)
    core = False
    Config = CcaConfig
    config: CcaConfig

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(read=2 * (self.config.windows + self.config.training))

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        clips = evaluation.clips(2)
        places = clips.windows(evaluation.corpus.train)
        if not len(places):
            raise NotAvailable("no training episode holds 2 frames")
        seen = changes(clips.batch(choose(places, self.config.training, evaluation.seed, "cca")))
        canonical = Canonical.of(*seen, self.config.components)
        if not len(canonical.correlations):
            raise NotAvailable("all actions of the training episodes are alike: nothing goes with them")
        batch = pairs(evaluation, 1, self.config.windows)
        found, done = canonical.variates(*changes(batch))
        others = done[strangers(batch.windows, 1, evaluation.seed)[:, 0].numpy()]
        names = np.array([f"{n + 1}" for n in range(len(canonical.correlations))])
        yield evaluation.rows(CCA, batch.windows, found, k=1, dim=names, target=done)
        yield evaluation.rows(CCA, batch.windows, found, k=1, dim=names, role="floor", target=others)


def changes(batch: ClipBatch) -> tuple[np.ndarray, np.ndarray]:
    """Of clips of two frames: by how much the latents' mean over cells changes (N, C), and the actions (N, A)."""
    pooled = batch.x.float().mean((2, 3)).double().numpy()
    return pooled[:, -1] - pooled[:, 0], batch.actions[:, 0].double().numpy()
