"""Inverse dynamics by the other live protocol: what is left of an action once a frame's tokens are averaged.

Papers that let a reader see every token find actions in image-only semantic latents (r = 0.82), papers that pool the
tokens first find none (R² about 0). Both are measured on the same windows, see :mod:`rslwm.evals.inverse_dynamics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rslwm.evals.aggregates import PEARSON
from rslwm.evals.base import METRICS, Load, Metric, Need
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.inverse_dynamics import R2_ENCODER, InverseProbe, pairs
from rslwm.evals.probe import ProbeConfig, Reader, TrainedProbe
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.rows import Rows

R2_POOLED = replace(
    R2_ENCODER,
    name="idm_r2_pooled",
    scored=True,
    description="Share of the actions' variance that a small MLP explains from two frames whose tokens are averaged "
    "(protocol `pooled`); mean over dimensions. Beside idm_r it tells what an encoder keeps only in where things are.",
    rows_of="",
)
R_POOLED = replace(
    R2_POOLED,
    name="idm_r_pooled",
    unit="Pearson r",
    aggregate=PEARSON,
    scored=False,
    floor="no correlation",
    description="Correlation of the same readings with the true actions, to be held beside idm_r.",
    rows_of="idm_r2_pooled",
)
_HIDDEN = 256


class PooledReader(Reader):
    """Two layers on the mean over cells of the first frame, and on how far the later ones are from it, standardised:
    what changes between frames is a hundredth of what differs between scenes.

    As :class:`rslwm.evals.probe.GridProbe` it has the same weights to learn for every number of channels.
    """

    def __init__(self, frames: int, channels: int, grid: tuple[int, int], out: int, config: ProbeConfig) -> None:
        super().__init__(frames, channels, grid, out, config)
        used = min(channels, config.channels)
        self.idle = config.channels - used
        mixing = torch.randn(channels, used) / channels**0.5 if channels > used else None
        self.register_buffer("mixing", mixing)
        self.mixing: Tensor | None
        self.standardised = nn.BatchNorm1d(frames * used, affine=False)
        self.hidden, self.head = nn.Linear(frames * config.channels, _HIDDEN), nn.Linear(_HIDDEN, out)
        with torch.no_grad():  # as if the idle ones weren't there
            self.hidden.weight.mul_((config.channels / used) ** 0.5)

    def forward(self, latents: Tensor) -> Tensor:
        pooled = latents.mean((2, 3))
        if self.mixing is not None:
            pooled = pooled @ self.mixing.to(pooled.dtype)
        pooled = torch.cat([pooled[:, :1], pooled[:, 1:] - pooled[:, :1]], 1)
        x = self.standardised(pooled.flatten(1)).unflatten(1, (pooled.shape[1], -1))
        return self.head(F.silu(self.hidden(F.pad(x, (0, self.idle)).flatten(1)))).float()


@dataclass(frozen=True)
class PooledInverseProbe(InverseProbe):
    """Reads the means over cells of the frames t and t+k and predicts the k actions between.

    Without noise on the latents: the change of a mean is small beside any that would matter to a cell.
    """

    reader: ClassVar[type[Reader]] = PooledReader
    noise: float | None = field(default=0.0, kw_only=True)

    @property
    def name(self) -> str:
        return f"inverse-pooled-{self.k}"


@dataclass(frozen=True)
class PooledConfig:
    """Actions read out of two latents whose tokens are averaged."""

    windows: int = 256
    """Held-out windows that they are read from; as many as inverse_dynamics.windows makes them the same ones."""
    horizons: tuple[int, ...] = (1,)
    """Kept frames between the two, a probe each."""


@METRICS.register("inverse_dynamics_pooled")
class PooledInverseDynamics(Metric):
    infos = (R2_POOLED, R_POOLED)
    core = False
    Config = PooledConfig
    config: PooledConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {f"probe_{k}": PooledInverseProbe(k) for k in self.config.horizons}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(read=self.config.windows * sum(k + 1 for k in self.config.horizons))

    def measure(self, evaluation: Evaluation, **probes: TrainedProbe) -> Iterator[Rows]:
        names = np.array(evaluation.corpus.action_spec.names)
        for k in self.config.horizons:
            batch = pairs(evaluation, k, self.config.windows)
            found = probes[f"probe_{k}"].apply(batch.x[:, [0, -1]], evaluation.compute).unflatten(1, (k, -1))
            yield evaluation.rows(R2_POOLED, batch.windows, found, k=k, dim=names, target=batch.actions)
