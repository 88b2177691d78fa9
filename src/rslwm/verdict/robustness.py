"""What perturbations take from every metric: perturbed minus unperturbed, on the same episodes and windows.

A space under a perturbation is treated as another space of the study. So what makes differences between spaces sharp
makes these sharp: the same resampled episodes for both, windows that both have a number for, cells that both have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import TEST, Rows
from rslwm.types import Unavailable
from rslwm.verdict.bootstrap import Difference, Resampling, difference, mean_over_seeds, measure
from rslwm.verdict.scale import Scale


@dataclass(frozen=True)
class Drop:
    """What a perturbation changes in a metric of a space, with intervals over episodes alone.

    ``value`` is in the metric's unit; ``score``, where the metric has a scale, in parts of the unperturbed one: below 0
    is always worse. ``floor`` is what the perturbation changes in the space's own floor, where that is measured: of a
    darker picture whoever knows nothing has a smaller error, too. ``units`` counts the episodes.
    """

    perturbation: str
    metric: str
    latent: str
    units: int
    value: Difference
    score: Difference | None
    floor: Difference | None


def drops(
    rows: Rows, infos: Mapping[str, MetricInfo], scales: Mapping[str, Scale | Unavailable], resampling: Resampling
) -> tuple[Drop, ...]:
    """Of every perturbation, metric and space that rows of both kinds are there of.

    Args:
        rows: of all splits.
        scales: of the metrics, from the unperturbed rows, under the draws of ``resampling``.
    """
    found = []
    for perturbation in rows.distinct("split"):
        if perturbation != TEST:
            both = rows.where(np.isin(rows["split"], [TEST, perturbation]))
            for name, info in infos.items():
                found += _drops(both, perturbation, info, scales[name], resampling)
    return tuple(found)


def _drops(
    rows: Rows, perturbation: str, info: MetricInfo, scale: Scale | Unavailable, resampling: Resampling
) -> list[Drop]:
    rows = rows.where(rows["metric"] == info.source)
    usual, changed = (tuple((space, split) for space in resampling.spaces) for split in (TEST, perturbation))
    names = {pair: f"{pair[1]} {pair[0]}" for pair in usual + changed}
    latent = [names[pair] for pair in zip(rows["latent"].tolist(), rows["split"].tolist(), strict=True)]
    renamed = Rows({**rows.columns, "latent": np.array(latent, str), "split": np.full(len(rows), TEST)})
    doubled = replace(resampling, spaces=tuple(names.values()), trained=np.vstack([resampling.trained] * 2))
    measured = measure(renamed, info, doubled)
    value, floor = (mean_over_seeds(measured.estimates[role][..., 0], 2) for role in ("value", "floor"))
    room = scale.ceiling - scale.floor if isinstance(scale, Scale) else None
    result, count = [], len(resampling.spaces)
    for i, space in enumerate(resampling.spaces):
        before, after = value[:, i], value[:, count + i]
        if not np.isfinite([before[0], after[0]]).all():
            continue
        lost = difference(after, before, resampling.confidence)
        score = None if room is None else difference(after / room, before / room, resampling.confidence)
        grounds = floor[:, count + i], floor[:, i]
        known = all(np.isfinite(ground[0]) for ground in grounds)
        ground = difference(*grounds, resampling.confidence) if known else None
        result.append(Drop(perturbation, info.name, space, measured.units, lost, score, ground))
    return result
