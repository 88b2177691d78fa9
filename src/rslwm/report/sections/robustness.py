"""Out of distribution: what perturbations take from every metric."""

from __future__ import annotations

from typing import Any

from rslwm.report.charts import Chart, Panel, Series
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.verdict.robustness import Drop


def build(run: Run) -> dict[str, Any] | None:
    by_kind: dict[str, list[Drop]] = {}
    for drop in run.verdict.robustness:
        by_kind.setdefault(drop.perturbation, []).append(drop)
    if not by_kind:
        return None
    panels = tuple(panel for kind, drops in by_kind.items() if (panel := _panel(kind, drops, run.verdict.ranking)))
    caption = (
        "What a perturbation of the held-out episodes takes from every score, where a metric has one; left of the line "
        "is worse. Bars are intervals over episodes alone. None of this is in a score or a decision."
    )
    chart = Chart("robustness", "Change of the score under a perturbation", panels, caption, height=3.6)
    return {"charts": [chart] if panels else [], "parts": _tables(run, by_kind)}


def _panel(kind: str, drops: list[Drop], ranking: tuple[str, ...]) -> Panel | None:
    """Spaces beside each other in the line of a metric."""
    scored = [drop for drop in drops if drop.score]
    names = tuple(dict.fromkeys(drop.metric for drop in scored))
    series = []
    for place, space in enumerate(ranking):
        own = {drop.metric: drop.score for drop in scored if drop.latent == space}
        shift = (place - (len(ranking) - 1) / 2) * 0.7 / max(len(ranking), 1)
        found = [(names.index(metric), change) for metric, change in own.items() if change]
        if found:
            rows, changes = zip(*found, strict=True)
            series.append(
                Series(space, [c.value for c in changes], [row + shift for row in rows], left=[c.low for c in changes],
                       right=[c.high for c in changes], space=space, small=False, points=[names[row] for row in rows])
            )  # fmt: skip
    return Panel(tuple(series), kind, "change of the score", names=names, zero=True) if series else None


def _tables(run: Run, by_kind: dict[str, list[Drop]]) -> list[dict[str, Any]]:
    """By perturbation, a line for every metric with what each space loses."""
    infos = {metric.info.name: metric.info for metric in run.verdict.metrics}
    found = []
    for kind, drops in by_kind.items():
        lines: dict[str, dict[str, Drop]] = {}
        for drop in drops:
            lines.setdefault(drop.metric, {})[drop.latent] = drop
        rows = [
            {
                "info": infos[name],
                "cells": cells,
                "spread": max(abs(d.value.high - d.value.low) for d in cells.values()),
            }
            for name, cells in lines.items()
        ]
        found.append({"name": kind, "units": max(drop.units for drop in drops), "lines": rows})
    return found


SECTION = Section("Robustness", 35, build)
