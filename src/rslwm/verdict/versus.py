"""Two runs beside each other: what every metric of the spaces that both have changed from one to the other.

Where both hold the same episodes these are resampled together, which makes a difference sharp; where they don't, each
run's episodes are drawn by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import TEST, Rows
from rslwm.types import REFERENCE, DataError
from rslwm.verdict.bootstrap import Difference, Measurement, Resampling, difference, mean_over_seeds, measure
from rslwm.verdict.decide import VerdictConfig, counted
from rslwm.verdict.scale import Scale, find_scale


@dataclass(frozen=True)
class Change:
    """A metric of a space in the second run minus that in the first, in its unit; ``score``, where the metric has a
    scale in the first run, in parts of that: above 0 is better. Intervals are over episodes alone."""

    info: MetricInfo
    latent: str
    before: float
    after: float
    value: Difference
    score: Difference | None


def changes(
    first: Rows, second: Rows, infos: Mapping[str, MetricInfo], config: VerdictConfig, paired: bool
) -> tuple[Change, ...]:
    """Of every metric and space that both runs have; ``paired`` says that their episodes are the same.

    Raises:
        DataError: they have no space, metric or episode in common.
    """
    sides = _common(first, second, paired)
    known = {name: info for name, info in infos.items() if info.source in sides[0].distinct("metric")}
    draws = [
        Resampling.of(rows, config.resamples, config.confidence, config.seed + (0 if paired else side), counted(infos))
        for side, rows in enumerate(sides)
    ]
    return tuple(
        change
        for info in known.values()
        for change in _changes(
            [measure(rows, info, drawn) for rows, drawn in zip(sides, draws, strict=True)], draws, config
        )
    )


def _common(first: Rows, second: Rows, paired: bool) -> list[Rows]:
    """What both have, without sanity rows and perturbed episodes."""
    sides = [rows.where((rows["split"] == TEST) & (rows["family"] != REFERENCE)) for rows in (first, second)]
    for column in ("latent", "metric", *(("unit",) if paired else ())):
        both = [*{*sides[0].distinct(column)} & {*sides[1].distinct(column)}]
        if not both:
            raise DataError(f"the two runs have no {column} in common, so there is nothing to compare")
        sides = [rows.where(np.isin(rows[column], both)) for rows in sides]
    return sides


def _changes(measured: list[Measurement], draws: list[Resampling], config: VerdictConfig) -> Iterator[Change]:
    before, after = (mean_over_seeds(m.estimates["value"][..., 0], 2) for m in measured)
    info, scale = measured[0].info, find_scale(measured[0], config.min_room)
    for i, latent in enumerate(draws[0].spaces):
        if latent not in draws[1].spaces:
            continue
        old, new = before[:, i], after[:, draws[1].spaces.index(latent)]
        if np.isfinite([old[0], new[0]]).all():
            room = scale.ceiling - scale.floor if isinstance(scale, Scale) else None
            score = None if room is None else difference(new / room, old / room, config.confidence)
            value = difference(new, old, config.confidence)
            yield Change(info, latent, float(old[0]), float(new[0]), value, score)
