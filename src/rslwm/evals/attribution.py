"""Which part of the latents matters: directions of their channels are removed, or places of their grid, and what reads
and decodes them is asked again.

What is removed is what varies: the rest stays at the mean that its place has in training episodes. So a reader isn't
shown what it has never seen, and a direction costs what it tells. Directions are of the space, not of its basis:
latents whose channels are rotated have the same curves, up to chance in the random directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from rslwm.compute import generator
from rslwm.data.clips import ClipBatch
from rslwm.evals.aggregates import MEAN, PEARSON
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, Need, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.inverse_dynamics import InverseProbe
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.readout import StateProbe, StateTargets, distance
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.evals.visual import psnr
from rslwm.evals.windows import choose
from rslwm.types import Role

ACTIONS = MetricInfo(
    name="directions_idm_r",
    axis="representation",
    question="Which part of the latents matters?",
    rung=3,
    higher_is_better=True,
    unit="Pearson r",
    aggregate=PEARSON,
    floor="uncorrelated",
    floor_value=0.0,
    ceiling="the true actions",
    ceiling_value=1.0,
    scored=False,
    description="Correlation of the actions that the inverse dynamics probe still reads with the true ones, over all "
    "dimensions in units of their standard deviation, when k directions of the channels are removed (0: none): those "
    "that tell most of actions, those of the greatest variance, or random ones.",
)
STATE = replace(
    ACTIONS,
    name="directions_state_error",
    higher_is_better=False,
    unit="cm",
    aggregate=MEAN,
    floor="predict the training episodes' mean position",
    floor_value=None,
    ceiling="the true state",
    ceiling_value=0.0,
    description="Error of the positions that the state probe still reads when these directions are removed; mean over "
    "the gripper and the objects that are there.",
)
DECODED = replace(
    ACTIONS,
    name="directions_psnr",
    unit="dB",
    aggregate=MEAN,
    floor="the mean latents, decoded",
    floor_value=None,
    ceiling="nothing is removed",
    ceiling_value=60.0,
    description="Peak signal-to-noise ratio of latents decoded without these directions against the same latents "
    "decoded whole.",
)
MAP = replace(
    ACTIONS,
    name="attribution_map",
    unit="R²",
    aggregate=MEAN,
    floor="a place that tells nothing",
    ceiling="all of the variance",
    description="How much of the actions' variance the inverse dynamics probe no longer explains when it doesn't see a "
    "block of the grid, by row and column.",
)

KINDS: Final = ("actions", "random", "variance")
_COARSE = 4
"""Cells a side that changes are averaged to before it is asked which go with actions."""
_DEAD = 1e-6
"""Share of the greatest variance below which a direction counts as having that much."""


@dataclass(frozen=True)
class AttributionConfig:
    """What is removed from latents, and what it is fitted and measured on."""

    removed: tuple[int, ...] = (1, 2, 4, 8)
    """How many directions are removed, as far as there are so many channels."""
    draws: int = 2
    """Sets of random directions."""
    blocks: int = 8
    """Blocks a side that the grid's longer side is parted into, for the map; a cell each where it has fewer."""
    fitted: int = 384
    """Training windows of two frames that directions and means are fitted on."""
    windows: int = 96
    """Held-out windows of two frames that are read without a direction or a block."""
    decoded: int = 24
    """Of these, frames that are decoded."""


@dataclass(frozen=True)
class Directions:
    """What is removed: of latents z what ``reads`` (C, m) reads is taken away along ``writes`` (C, m), the most telling
    direction first. The two are the same where the projection is orthogonal."""

    reads: Tensor
    writes: Tensor

    def first(self, k: int) -> Directions:
        return Directions(self.reads[:, :k], self.writes[:, :k])


@dataclass(frozen=True)
class Fitted:
    """Of training episodes: ``mean`` latents (h, w, C), directions by kind, mean and standard deviation (A,) of
    actions."""

    mean: Tensor
    directions: dict[str, Directions]
    actions: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, batch: ClipBatch, m: int) -> Fitted:
        """Of clips of two frames."""
        x, actions = batch.x.float(), batch.actions.flatten(1)
        mean, about = x.mean((0, 1)), (actions.mean(0), actions.std(0).clamp_min(1e-6))
        directions = {
            "actions": telling(x[:, 1] - x[:, 0], (actions - about[0]) / about[1], m),
            "variance": varying(x - mean, m),
        }
        return cls(mean, directions, about)

    def without(self, z: Tensor, directions: Directions) -> Tensor:
        """Latents (..., h, w, C) from which these directions are removed."""
        return z - (z - self.mean) @ directions.reads @ directions.writes.T

    def occluded(self, z: Tensor, block: tuple[slice, slice]) -> Tensor:
        """Latents (..., h, w, C) that don't vary in a block of the grid."""
        hidden = z.clone()
        hidden[..., *block, :] = self.mean[*block]
        return hidden


def telling(change: Tensor, actions: Tensor, m: int) -> Directions:
    """Directions of changes (N, h, w, C) along which they go with standardised actions (N, A).

    They are those of least-squares concept erasure (Belrose et al. 2023, arXiv 2306.03819): the left singular vectors
    of the whitened changes' covariance with actions, (C, cells A) since an action may be told where the gripper is and
    nowhere else. Without them no linear reader tells anything; how loud a channel is doesn't matter.
    """
    h, w = (min(size, _COARSE) for size in change.shape[1:3])
    cells = F.adaptive_avg_pool2d(rearrange(change, "N h w C -> N C h w"), (h, w)).flatten(2).double()
    cells, actions = cells - cells.mean(0), actions.double() - actions.double().mean(0)
    values, vectors = torch.linalg.eigh(
        torch.einsum("N C i, N D i -> C D", cells, cells) / (len(cells) * cells.shape[2])
    )
    scale = values.clamp_min(_DEAD * values.max()).sqrt()
    whitening, back = vectors / scale @ vectors.T, vectors * scale @ vectors.T
    going = torch.einsum("N C i, N A -> C i A", cells, actions).flatten(1) / len(cells)
    leading = _leading(whitening @ going @ going.T @ whitening, m)
    return Directions((whitening @ leading).float(), (back @ leading).float())


def varying(latents: Tensor, m: int) -> Directions:
    """Orthonormal directions of the greatest variance of centred latents (..., C)."""
    flat = latents.flatten(0, -2).double()
    leading = _leading(flat.T @ flat, m).float()
    return Directions(leading, leading)


def _leading(gram: Tensor, m: int) -> Tensor:
    """Eigenvectors (C, m) of the greatest eigenvalues of (C, C)."""
    return torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :m]


def random_directions(channels: int, m: int, g: torch.Generator) -> Directions:
    """Orthonormal directions, uniform over all of them."""
    drawn = torch.linalg.qr(torch.randn(channels, m, generator=g)).Q
    return Directions(drawn, drawn)


def blocks(grid: tuple[int, int], most: int) -> dict[str, tuple[slice, slice]]:
    """Square blocks of a grid (h, w) by "row,column", at most so many along its longer side."""
    size = -(-max(grid) // most)
    rows, columns = (range(-(-side // size)) for side in grid)
    parts = [slice(size * i, size * (i + 1)) for i in range(max(len(rows), len(columns)))]
    return {f"{row},{column}": (parts[row], parts[column]) for row in rows for column in columns}


@METRICS.register("attribution")
class Attribution(Metric):
    infos = (ACTIONS, STATE, DECODED, MAP)
    core = False
    Config = AttributionConfig
    config: AttributionConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"inverse": InverseProbe(1), "state": StateProbe()}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        c = self.config
        removals = len(c.removed) * (len(KINDS) - 1 + c.draws)
        return Load(read=2 * (c.fitted + c.windows), decoded=c.decoded * (removals + 2))

    def measure(self, evaluation: Evaluation, inverse: TrainedProbe, state: TrainedProbe) -> Iterator[Rows]:
        if inverse.absent and state.absent:
            raise NotAvailable(f"{inverse.absent}; {state.absent}")
        c, clips = self.config, evaluation.clips(2)
        places = choose(clips.windows(evaluation.corpus.train), c.fitted, evaluation.seed, "attribution fit")
        fitted = Fitted.of(clips.batch(places), max(c.removed))
        batch = evaluation.batch(2, c.windows, "attribution")
        x, under = batch.x.float(), Reading(evaluation, batch, fitted, inverse, state)
        shown = x[: c.decoded, :1]
        whole = evaluation.decode(shown)
        yield from under.read(x, 0, np.array(KINDS))
        for kind, directions in self._removals(fitted, evaluation.seed):
            removed, k, dim = fitted.without(x, directions), directions.reads.shape[1], np.array([kind])
            yield from under.read(removed, k, dim)
            seen = evaluation.decode(removed[: c.decoded, :1])
            yield evaluation.rows(DECODED, batch.windows[: c.decoded], psnr(seen, whole), k=k, dim=dim)
        nothing = psnr(evaluation.decode(fitted.mean.expand_as(shown)), whole)
        numbers, kinds = self._cells(x.shape[-1])
        yield evaluation.rows(DECODED, batch.windows[: c.decoded], nothing, k=numbers, dim=kinds, role="floor")
        yield from under.nothing(np.array([0] * len(KINDS) + [*numbers]), np.array([*KINDS, *kinds]))
        yield from under.map(x, blocks((x.shape[2], x.shape[3]), c.blocks))

    def _removals(self, fitted: Fitted, seed: int) -> Iterator[tuple[str, Directions]]:
        """By kind, k directions each."""
        channels = fitted.mean.shape[-1]
        sets = [*fitted.directions.items()]
        for draw in range(self.config.draws):
            g = generator(seed, "attribution random", draw)
            sets.append(("random", random_directions(channels, max(self.config.removed), g)))
        return ((kind, directions.first(k)) for kind, directions in sets for k in self._numbers(channels))

    def _numbers(self, channels: int) -> list[int]:
        return sorted({min(k, channels) for k in self.config.removed})

    def _cells(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and kinds of directions, in all combinations."""
        numbers = self._numbers(channels)
        return np.repeat(numbers, len(KINDS)), np.tile(KINDS, len(numbers))


@dataclass(frozen=True)
class Reading:
    """What frozen probes read out of a batch of two frames a window when something is missing in its latents; one of
    the probes may be absent."""

    evaluation: Evaluation
    batch: ClipBatch
    fitted: Fitted
    inverse: TrainedProbe
    state: TrainedProbe

    def read(self, x: Tensor, k: int, kinds: np.ndarray) -> Iterator[Rows]:
        """Of latents (N, 2, h, w, C) from which ``k`` directions of these kinds were removed."""
        if not self.inverse.absent:
            found, true = (actions[..., None] for actions in (self._actions(x), self._true_actions()))
            yield self.evaluation.rows(ACTIONS, self.batch.windows, found, k=k, dim=kinds, target=true)
        if not self.state.absent:
            mean, std = self._positions().moments(self.evaluation.corpus.train)
            found = self.state.apply(x[:, :1], self.evaluation.compute) * std + mean
            yield self._distances(found, k, kinds, "value")

    def nothing(self, numbers: np.ndarray, kinds: np.ndarray) -> Iterator[Rows]:
        """The mean positions, for these numbers of directions and their kinds."""
        if not self.state.absent:
            mean, _ = self._positions().moments(self.evaluation.corpus.train)
            yield self._distances(mean.expand(len(self.batch.windows), -1), numbers, kinds, "floor")

    def map(self, x: Tensor, hidden: Mapping[str, tuple[slice, slice]]) -> Iterator[Rows]:
        """By how much the squared error of actions grows where a block is hidden in latents (N, 2, h, w, C)."""
        if self.inverse.absent:
            return
        true = self._true_actions()
        error = (self._actions(x) - true).square().mean(1)
        for name, block in hidden.items():
            blind = (self._actions(self.fitted.occluded(x, block)) - true).square().mean(1)
            yield self.evaluation.rows(MAP, self.batch.windows, blind - error, dim=name)

    def _actions(self, x: Tensor) -> Tensor:
        """What is read, (N, A), standardised."""
        mean, std = self.fitted.actions
        return (self.inverse.apply(x, self.evaluation.compute) - mean) / std

    def _true_actions(self) -> Tensor:
        mean, std = self.fitted.actions
        return (self.batch.actions.flatten(1) - mean) / std

    def _positions(self) -> StateTargets:
        return StateTargets.of(self.evaluation.corpus)

    def _distances(self, found: Tensor, k: int | np.ndarray, kinds: np.ndarray, role: Role) -> Rows:
        """Of positions (N, 3 + 3n) in metres."""
        windows = self.batch.windows
        error, counts = distance(found, *self._positions().at(windows), slice(None))
        return self.evaluation.rows(STATE, windows[counts], error[counts, None], k=k, dim=kinds, role=role)
