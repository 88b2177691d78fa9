"""The verdict of a study: everything that follows from its rows, recomputed from them at any time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import Rows
from rslwm.types import DataError, Unavailable
from rslwm.verdict import wording
from rslwm.verdict.axis import OVERALL, AxisScores, AxisVerdict, VerdictConfig, axis_scores, judge
from rslwm.verdict.bootstrap import Agreement, Resampling, agreement, measure
from rslwm.verdict.scale import Scale, Score, Summary, find_scale, score, summarise
from rslwm.verdict.training_noise import TrainingNoise


@dataclass(frozen=True)
class Verdict:
    """Scores, decisions and their reasons. ``training`` says in words where the training noise comes from; ``left_out``
    lists metrics that count for no score; ``remarks`` say what the axes lack and which rows don't match;
    ``agreements`` is keyed by "axis, axis"."""

    spaces: tuple[str, ...]
    families: tuple[str, ...]
    seeds: int
    units: int
    confidence: float
    axes: dict[str, AxisVerdict]
    metrics: tuple[Summary, ...]
    left_out: tuple[Unavailable, ...]
    agreements: dict[str, Agreement]
    training: str
    remarks: tuple[str, ...]

    def sentences(self) -> list[str]:
        """The verdict in words: one sentence an axis, then what else a reader has to know."""
        return [wording.decision(axis) for axis in self.axes.values()] + self.notes()

    def notes(self) -> list[str]:
        """Disagreement between axes, axes without a score, measurements that were left out."""
        return [*wording.disagreement(self.axes), *self.remarks]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types (``verdict.json``); numbers that don't exist are null."""
        decisions = {name: wording.decision(axis) for name, axis in self.axes.items()}
        return _plain({**asdict(self), "decisions": decisions, "notes": self.notes()})


def decide(
    rows: Rows,
    metrics: Mapping[str, MetricInfo],
    config: VerdictConfig,
    noise: TrainingNoise | None = None,
    study: Mapping[str, Any] | None = None,
) -> Verdict:
    """Compare the latent spaces of a study.

    Args:
        noise: record of training noise, used where the rows have a single seed and its configuration is theirs.
        study: what ``study.json`` holds, for metrics that weren't available and the numerics of each space.

    Raises:
        DataError: there are no rows, or a row's metric isn't declared in ``metrics``.
    """
    if not len(rows):
        raise DataError("the table of measurements has no rows; measure a metric before asking for a verdict")
    unknown = sorted(set(rows.distinct("metric")) - {info.source for info in metrics.values()})
    if unknown:
        raise DataError(f"rows of the metric {unknown[0]!r}, which isn't declared; declared: {', '.join(metrics)}")
    resampling = Resampling.of(rows, config.resamples, config.confidence, config.seed)
    summaries, scores, left_out = _measure_all(rows, metrics, resampling, config, noise)
    axes = axis_scores(scores, resampling, config)
    families = tuple(str(rows["family"][rows["latent"] == space][0]) for space in resampling.spaces)
    verdicts = {name: judge(name, axis, resampling, families) for name, axis in axes.items()}
    missing = _missing(metrics, left_out, study or {}, {score.name for score in scores})
    remarks = wording.gaps(verdicts, missing) + wording.omissions(summaries) + wording.numerics(study or {})
    return Verdict(
        spaces=resampling.spaces,
        families=families,
        seeds=len(resampling.seeds),
        units=len(resampling.units),
        confidence=config.confidence,
        axes=verdicts,
        metrics=tuple(summaries),
        left_out=tuple(left_out),
        agreements=_agreements(axes),
        training=wording.training(axes, noise),
        remarks=tuple(remarks),
    )


def _measure_all(
    rows: Rows,
    metrics: Mapping[str, MetricInfo],
    resampling: Resampling,
    config: VerdictConfig,
    noise: TrainingNoise | None,
) -> tuple[list[Summary], list[Score], list[Unavailable]]:
    elsewhere = noise.values if noise and not noise.unlike else {}
    summaries, scores, left_out = [], [], []
    stored = rows.distinct("metric")
    for info in sorted((i for i in metrics.values() if i.source in stored), key=lambda i: stored.index(i.source)):
        measurement = measure(rows, info, resampling)
        scale = find_scale(measurement, config.min_room)
        summaries.append(summarise(measurement, scale, resampling))
        if info.scored and isinstance(scale, Scale):
            scores.append(score(measurement, scale, elsewhere.get(info.name)))
        elif info.scored and isinstance(scale, Unavailable):
            left_out.append(scale)
    return summaries, scores, left_out


def _missing(
    metrics: Mapping[str, MetricInfo], left_out: Sequence[Unavailable], study: Mapping[str, Any], counted: set[str]
) -> dict[str, dict[str, str]]:
    """By axis, the metrics that would count for its score and aren't among those counted, with the reason: why it
    wasn't measured, if that is known, says more than that it wasn't."""
    reasons = {entry.metric: entry.reason for entry in left_out}
    reasons |= {entry["metric"]: entry["reason"] for entry in study.get("unavailable", [])}
    found: dict[str, dict[str, str]] = {}
    for name, reason in reasons.items():
        if name in metrics and metrics[name].scored and name not in counted:
            found.setdefault(metrics[name].axis, {})[name] = reason
    return found


def _agreements(axes: Mapping[str, AxisScores]) -> dict[str, Agreement]:
    points = {name: axis.estimates[0] for name, axis in axes.items() if name != OVERALL}
    found = {f"{a}, {b}": agreement(points[a], points[b]) for a, b in combinations(points, 2)}
    return {pair: value for pair, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
