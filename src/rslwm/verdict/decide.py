"""The verdict of a study: everything that follows from its rows, recomputed from them at any time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import scipy

from rslwm.evals.base import EPISODES, MetricInfo
from rslwm.evals.rows import TEST, Rows
from rslwm.files import read_json
from rslwm.serialisation import ConfigError, from_dict, to_dict
from rslwm.types import REFERENCE, DataError, Unavailable
from rslwm.verdict import policies, wording
from rslwm.verdict.axis import OVERALL, AxisScores, AxisVerdict, axis_scores, judge
from rslwm.verdict.bootstrap import TIE, Measurement, Resampling, measure
from rslwm.verdict.combination import Member
from rslwm.verdict.policies import PolicyReport
from rslwm.verdict.predictors import Prediction, predictions
from rslwm.verdict.robustness import Drop, drops
from rslwm.verdict.scale import Bar, Scale, Summary, draw_bars, find_scale, score, summarise
from rslwm.verdict.training_noise import TrainingNoise


@dataclass(frozen=True)
class VerdictConfig:
    """When a difference counts."""

    resamples: int = 2000
    """Number of bootstrap draws of the held-out episodes."""
    confidence: float = 0.95
    """Confidence of every interval and of every decision."""
    min_room: float = 4.0
    """A metric has a score if ceiling and floor are at least so many standard errors of their difference apart. At 4
    the scale distorts a score by about 1/16, and no draw comes near a room of zero."""
    training_noise: str = ""
    """Record of training noise for runs with a single seed, written by ``rslwm report RUN --training-noise FILE`` from
    a run with several; empty takes a shipped one of the same configuration. Of another configuration none is used."""
    seed: int = 99
    """Decides the bootstrap draws."""


@dataclass(frozen=True)
class Agreement:
    """Spearman correlation of two axes over the spaces, with the two cheapest checks of so small a sample.

    ``lowest`` and ``highest`` bound it when any one space is left out; ``p`` is the share of all orderings of the
    spaces that agree (or disagree) at least as strongly: with four spaces it can't be below 1/12.
    """

    rho: float
    lowest: float
    highest: float
    p: float


@dataclass(frozen=True)
class Verdict:
    """Scores, decisions and their reasons, ``overall`` the last of the axes; numbers that don't exist are None.

    ``decisions`` say by axis who is best or what would tell, ``notes`` what else a reader has to know: where axes
    disagree, what they lack, which rows don't match. ``training`` says where the training noise comes from;
    ``left_out`` lists metrics that count for no score; ``agreements`` is keyed by "axis, axis".
    """

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
    decisions: dict[str, str]
    notes: tuple[str, ...]
    robustness: tuple[Drop, ...] = ()
    """What every metric loses under every perturbation; no part of a score or a decision."""
    policies: dict[str, PolicyReport] = field(default_factory=dict)
    """Success of policies inside the world model of every space beside their true success, where they were tried."""
    predictors: tuple[Prediction, ...] = ()
    """How every metric orders trainings as those do that are dear to measure."""

    @property
    def ranking(self) -> tuple[str, ...]:
        """The spaces by overall score or, without one, in the order of the study."""
        overall = self.axes.get(OVERALL)
        return tuple(standing.latent for standing in overall.standings) if overall else self.spaces

    @property
    def references(self) -> dict[str, dict[str, float | None]]:
        """Scores of sanity rows by axis, weighted as the spaces are; None if a metric is missing."""
        found: dict[str, dict[str, float | None]] = {}
        for name in dict.fromkeys(bar.latent for metric in self.metrics for bar in metric.references):
            scores = {m.info.name: bar.score for m in self.metrics for bar in m.references if bar.latent == name}
            of_axes: dict[str, float | None] = {}
            for axis, verdict in self.axes.items():  # the overall one comes last
                parts = [(part.weight, (scores | of_axes).get(part.name)) for part in verdict.parts if part.weight]
                known = [weight * value for weight, value in parts if value is not None]
                of_axes[axis] = sum(known) if len(known) == len(parts) else None
            found[name] = of_axes
        return found

    def save(self, path: Path) -> None:
        """Write ``verdict.json``."""
        values = to_dict(self)
        for part in ("robustness", "policies", "predictors"):
            if not values[part]:
                del values[part]
        path.write_text(json.dumps(values, indent=1, allow_nan=False))

    @classmethod
    def load(cls, path: Path) -> Verdict:
        """Read ``verdict.json``.

        Raises:
            DataError: the file is missing, damaged or of another version of rslwm.
        """
        if not path.is_file():
            raise DataError(f"{path} does not exist; `rslwm compare` writes it into the folder of its run")
        try:
            return from_dict(cls, read_json(path))
        except (DataError, ConfigError) as error:
            raise DataError(f"{path} is no verdict of this version ({error}); `rslwm report` writes it anew") from None


def decide(
    rows: Rows,
    metrics: Mapping[str, MetricInfo],
    config: VerdictConfig,
    noise: TrainingNoise | None = None,
    unavailable: Sequence[Unavailable] = (),
    numerics: Mapping[str, Mapping[str, str]] | None = None,
) -> Verdict:
    """Compare the latent spaces of a study on its held-out episodes; what they lose on perturbed ones stands beside it.

    Args:
        noise: record of training noise, used where the rows have a single seed and its configuration is theirs.
        unavailable: metrics that weren't measured, and why.
        numerics: device and precision that each space was made with.

    Raises:
        DataError: there are no rows, or a row's metric isn't declared in ``metrics``.
    """
    everything, (rows, beside) = rows, _sides(rows, metrics)
    stored = rows.distinct("metric")
    resampling = Resampling.of(rows, config.resamples, config.confidence, config.seed, counted(metrics))
    elsewhere = noise.values if noise and not noise.unlike else {}
    summaries, scored, left_out = list[Summary](), dict[str, list[Member]](), list[Unavailable]()
    scales = dict[str, Scale | Unavailable]()
    for info in sorted((i for i in metrics.values() if i.source in stored), key=lambda i: stored.index(i.source)):
        measurement = measure(rows, info, resampling)
        scale = scales[info.name] = find_scale(measurement, config.min_room)
        references = _references(beside, measurement, scale, resampling)
        summaries.append(replace(summarise(measurement, scale, resampling), references=references))
        if not info.scored:
            continue
        if isinstance(scale, Unavailable):
            left_out.append(scale)
        else:
            scored.setdefault(info.axis, []).append(score(measurement, scale, elsewhere.get(info.name)))
    axes = axis_scores(scored, resampling, config.seed)
    families = tuple(str(rows["family"][rows["latent"] == space][0]) for space in resampling.spaces)
    verdicts = {name: judge(name, axis, resampling, families) for name, axis in axes.items()}
    missing = _missing(metrics, [*left_out, *unavailable], {m.name for found in scored.values() for m in found})
    return Verdict(
        spaces=resampling.spaces,
        families=families,
        seeds=len(resampling.seeds),
        units=resampling.episodes,
        confidence=config.confidence,
        axes=verdicts,
        metrics=tuple(summaries),
        left_out=tuple(left_out),
        agreements=_agreements(axes),
        training=wording.training(axes, noise),
        decisions={name: wording.decision(axis) for name, axis in verdicts.items()},
        notes=wording.notes(verdicts, missing, summaries, numerics or {}),
        robustness=drops(everything, {summary.info.name: summary.info for summary in summaries}, scales, resampling),
        policies=policies.reports(rows),
        predictors=predictions(rows, metrics),
    )


def counted(metrics: Mapping[str, MetricInfo]) -> dict[str, str]:
    """What units are, by the name of the metric whose rows hold them, where they aren't episodes."""
    return {info.source: info.counts for info in metrics.values() if info.counts != EPISODES}


def _sides(rows: Rows, metrics: Mapping[str, MetricInfo]) -> tuple[Rows, Rows]:
    """Rows of unperturbed episodes: those of the spaces, and those of the sanity rows beside them."""
    rows = rows.where(rows["split"] == TEST)
    if not len(rows):
        raise DataError("the table of measurements has no rows; measure a metric before asking for a verdict")
    if unknown := sorted(set(rows.distinct("metric")) - {info.source for info in metrics.values()}):
        raise DataError(f"rows of the metric {unknown[0]!r}, which isn't declared; declared: {', '.join(metrics)}")
    known = rows["family"] == REFERENCE
    if known.all():
        raise DataError("all rows are of sanity rows, which are no latent spaces to compare")
    return rows.where(~known), rows.where(known)


def _references(
    rows: Rows, measurement: Measurement, scale: Scale | Unavailable, resampling: Resampling
) -> tuple[Bar, ...]:
    """What a metric measured of sanity rows, on the scale of the spaces, which they don't move."""
    info = measurement.info
    rows = rows.where((rows["metric"] == info.source) & np.isin(rows["unit"], resampling.units))
    if not len(rows):
        return ()
    drawn = resampling.beside(rows)
    return draw_bars(measure(rows, info, drawn), scale, drawn, measurement.ks, measurement.dims)


def _missing(
    metrics: Mapping[str, MetricInfo], reasons: Sequence[Unavailable], counted: set[str]
) -> dict[str, dict[str, str]]:
    """By axis, the metrics that would count for its score and aren't among those counted, with the last reason given:
    why it wasn't measured says more than that it wasn't."""
    found: dict[str, dict[str, str]] = {}
    for entry in reasons:
        info = metrics.get(entry.metric)
        if info and info.scored and info.name not in counted:
            found.setdefault(info.axis, {})[info.name] = entry.reason
    return found


def _agreements(axes: Mapping[str, AxisScores]) -> dict[str, Agreement]:
    points = {name: (axis.estimates[0] / TIE).round() for name, axis in axes.items() if name != OVERALL}
    found = {f"{a}, {b}": agreement(points[a], points[b]) for a, b in itertools.combinations(points, 2)}
    return {pair: value for pair, value in found.items() if value is not None}


def agreement(x: np.ndarray, y: np.ndarray, permutations: int = 5040, seed: int = 0) -> Agreement | None:
    """Do two scores (L,) rank the spaces alike? None with fewer than four spaces, or where one score is constant."""
    n = len(x)
    if n < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rx, ry = scipy.stats.rankdata(x), scipy.stats.rankdata(y)
    rho = _correlation(rx, ry)
    keep = [np.arange(n) != i for i in range(n)]
    dropped = [_correlation(scipy.stats.rankdata(x[k]), scipy.stats.rankdata(y[k])) for k in keep]
    if n <= 7:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        rng = np.random.default_rng(seed)
        orders = np.vstack([np.arange(n), rng.permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)])
    null = (rx - rx.mean()) @ (ry[orders] - ry.mean()).T / (n * rx.std() * ry.std())
    return Agreement(rho, min(dropped), max(dropped), float((np.abs(null) >= abs(rho) - 1e-9).mean()))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    spread = x.std() * y.std()
    return float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 0 else 0.0
