"""Where the chance in a score comes from, and which differences a study can therefore detect.

The budget of variance is measured by a pilot whose spaces were trained under several seeds, and by repetitions of it in
which one thing alone is drawn again: the world models (``world_model.redraw``), the probes
(``evaluation.probe.redraw``), or windows and sampling (``evaluation.seed``). Encoders and adapters are what is left of
the variance between trainings. A difference d is detected with 80 % power at the standard error
d / (t_{.975, f} + z_{.8}), f being the degrees of freedom of the training noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import TEST, Rows
from rslwm.files import read_json
from rslwm.serialisation import ConfigError, from_dict, to_dict
from rslwm.types import REFERENCE, DataError, Unavailable
from rslwm.verdict.axis import POWER, axis_scores
from rslwm.verdict.bootstrap import Resampling, measure
from rslwm.verdict.combination import Member, deviations, freedom
from rslwm.verdict.decide import VerdictConfig, counted
from rslwm.verdict.scale import find_scale, score
from rslwm.verdict.training_noise import Circumstances

WORLD_MODEL, PROBE, SAMPLING = "world model", "probes", "windows and sampling"
REDRAWN = {"world_model.redraw": WORLD_MODEL, "evaluation.probe.redraw": PROBE, "evaluation.seed": SAMPLING}
"""What a repetition draws again, by the field of the configuration that tells."""


@dataclass(frozen=True)
class Variance:
    """Of one score, an axis's or a metric's, on its scale from 0 to 1.

    ``training`` is from one training of a space to the next, of which ``redrawn`` holds the parts that were drawn again
    alone; ``sampling`` in ``redrawn`` isn't part of it. ``episodes`` is that of a difference between two spaces, by the
    chance of ``units`` episodes. ``freedom`` are degrees of freedom of ``training``.
    """

    axis: str
    training: float
    freedom: int
    redrawn: dict[str, float]
    episodes: float
    units: int

    @property
    def encoder(self) -> float:
        """What is left of the training's variance when world models and probes are taken off."""
        return max(0.0, self.training - sum(self.redrawn.get(part, 0.0) for part in (WORLD_MODEL, PROBE)))


@dataclass(frozen=True)
class Budget:
    """A record of where chance comes from: by score, axes and metrics, under these circumstances.

    ``unlike`` says where the circumstances of the study that looked it up are others.
    """

    name: str
    scores: dict[str, Variance]
    made: Circumstances
    unlike: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(to_dict(replace(self, unlike=())), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Budget:
        """Read JSON; :class:`DataError` if the file is missing or is something else."""
        if not path.is_file():
            raise DataError(f"{path} does not exist; `rslwm budget RUN --out {path}` writes it")
        try:
            return from_dict(cls, read_json(path))
        except (DataError, ConfigError) as error:
            raise DataError(f"{path} is no budget of variance ({error}); write it again: `rslwm budget RUN`") from None


@dataclass(frozen=True)
class Piece:
    """A finished run: its rows, what its metrics declare, and its configuration, flat, with what was drawn again."""

    rows: Rows
    metrics: Mapping[str, MetricInfo]
    made: Circumstances
    config: Mapping[str, Any]
    verdict: VerdictConfig


def drawn_again(pilot: Piece, other: Piece) -> str:
    """What a repetition of the pilot draws again; raises :class:`ConfigError` unless that is one thing."""
    ours, theirs = pilot.config, other.config
    differ = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    if len(differ) != 1 or differ[0] not in REDRAWN:
        found = ", ".join(sorted(differ)) or "nothing"
        raise ConfigError(f"a repetition of a pilot differs from it in one of {', '.join(REDRAWN)}; here: {found}")
    return REDRAWN[differ[0]]


def budget(name: str, pilot: Piece, *others: Piece) -> Budget:
    """Measure where chance comes from.

    Raises:
        ConfigError: a repetition differs from the pilot in something else than what is drawn again.
        DataError: no space of the pilot was trained under two seeds.
    """
    resampling, members = _members(pilot)
    if not resampling.trained.sum(1).max() > 1:
        raise DataError("every space was trained once, which shows no training noise; --seeds 3 trains each thrice")
    again = {drawn_again(pilot, other): _members(other)[1] for other in others}
    axes = axis_scores(members, resampling, pilot.verdict.seed)
    found: dict[str, Variance] = {}
    for axis, scores in axes.items():
        weights = {part.name: part.weight for part in scores.parts}
        if axis in members:
            trainings = {what: _weighed(weights, there[axis]) for what, there in again.items() if axis in there}
            found[axis] = _variance(axis, scores.estimates, _weighed(weights, members[axis]), trainings, scores.units)
    for axis, those in members.items():
        for m in those:
            trainings = {w: t.trainings for w, there in again.items() for t in there[axis] if t.name == m.name}
            found[m.name] = _variance(axis, m.estimates, m.trainings, trainings, m.units)
    return Budget(name, found, pilot.made)


def _members(piece: Piece) -> tuple[Resampling, dict[str, list[Member]]]:
    """The scored metrics of a run by axis."""
    rows = piece.rows.where((piece.rows["split"] == TEST) & (piece.rows["family"] != REFERENCE))
    config, stored = piece.verdict, rows.distinct("metric")
    resampling = Resampling.of(rows, config.resamples, config.confidence, config.seed, counted(piece.metrics))
    found: dict[str, list[Member]] = {}
    for info in piece.metrics.values():
        if info.scored and info.source in stored:
            measurement = measure(rows, info, resampling)
            scale = find_scale(measurement, config.min_room)
            if not isinstance(scale, Unavailable):
                found.setdefault(info.axis, []).append(score(measurement, scale))
    return resampling, found


def _weighed(weights: Mapping[str, float], members: list[Member]) -> np.ndarray:
    """Scores of an axis (L, S); a metric that a repetition lacks is left out, and the others count for it."""
    known = [(weights[m.name], m.trainings) for m in members if weights.get(m.name)]
    shares = np.array([weight for weight, _ in known])
    return np.tensordot(shares / shares.sum(), np.stack([trainings for _, trainings in known]), 1)


def _variance(
    axis: str, estimates: np.ndarray, trainings: np.ndarray, again: Mapping[str, np.ndarray], units: int
) -> Variance:
    """Of scores with estimates (N + 1, L) and trainings (L, S), and trainings (L, S) of each repetition."""
    spaces = estimates.shape[1]
    draws = estimates[1:] - estimates[1:].mean(0)
    apart = draws - draws.mean(1, keepdims=True)
    episodes = 2 * float((apart**2).sum(1).mean()) / max(spaces - 1, 1)
    parts = {}
    for what, there in again.items():
        moved = trainings - there
        if what == SAMPLING:  # other windows are other windows for all
            moved = moved - moved.mean(0)
            parts[what] = float(np.nansum(moved**2) / (2 * max(spaces - 1, 1) * moved.shape[1]))
        else:
            parts[what] = float(np.nanmean(moved**2) / 2)
    degrees = freedom(trainings)
    return Variance(axis, float(np.nansum(deviations(trainings) ** 2) / degrees), degrees, parts, episodes, units)


def detectable(variance: Variance, seeds: int, families: tuple[int, int] = (1, 1), episodes: float = 1.0) -> float:
    """The smallest difference between the means of so many spaces a side that is found with 80 % power at 95 %.

    Args:
        families: spaces on either side; (1, 1) is a pair, (3, 3) a contrast of two families of three.
        episodes: so many times as many as in the record.
    """
    sides = sum(1 / count for count in families)
    error = math.sqrt(sides * (variance.training / seeds + variance.episodes / 2 / episodes))
    return error * (scipy.stats.t.ppf(0.975, max(variance.freedom, 1)) + scipy.stats.norm.ppf(POWER))


def shipped() -> list[Budget]:
    """The records in the package."""
    folder = Path(str(files("rslwm.verdict"))) / "budgets"
    return [Budget.load(path) for path in sorted(folder.glob("*.json"))]


def closest(here: Circumstances, usual: Circumstances, records: list[Budget]) -> Budget:
    """The record that fits best; raises :class:`DataError` if there is none."""
    compared = [replace(record, unlike=here.unlike(record.made, usual)) for record in records]
    if not compared:
        raise DataError("no budget of variance is at hand; `rslwm budget RUN --out FILE` makes one of a pilot")
    return min(compared, key=lambda record: len(record.unlike))
