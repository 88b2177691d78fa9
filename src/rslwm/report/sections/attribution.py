"""Which part of the latents matters?"""

from __future__ import annotations

from typing import Any

from rslwm.evals.attribution import ACTIONS, DECODED, MAP, STATE
from rslwm.report.charts import Chart, Grid
from rslwm.report.curves import spanning, strands
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.verdict.scale import Bar, Summary

KINDS = {"actions": "telling", "variance": "wide", "random": "random"}
"""Directions that tell most of actions, those of the greatest variance, and random ones."""
READ = {ACTIONS.name: "actions read", STATE.name: "positions read", DECODED.name: "decoded"}


def build(run: Run) -> dict[str, Any] | None:
    known = run.measured([*READ, MAP.name])
    charts = []
    if shown := [name for name in READ if name in known]:
        spans = {name: spanning(known[name], known[name].cells) for name in shown}
        panels = tuple(
            strands(known[name], kind, "directions removed", f"{READ[name]}, {word} ones removed", spans[name])
            for kind, word in KINDS.items()
            for name in shown
            if kind in known[name].cells
        )
        caption = (
            "What is still read and decoded when directions of the latents are removed, a line of panels for each "
            "kind: telling ones tell most of actions, wide ones have the greatest variance. Arrows point to better; "
            "bands are intervals."
        )
        charts.append(
            Chart(
                "attribution", "Reading with directions removed", panels, caption, len(shown), tuple(shown), height=2.2
            )
        )
    if places := known.get(MAP.name):
        caption = "Places of the latent grid that actions are read from; the fuller, the more. One scale for all."
        charts.append(Chart("places", "Where actions are read", _maps(places), caption, 6, (MAP.name,), height=1.8))
    return {"charts": charts} if charts else None


def _maps(metric: Summary) -> tuple[Grid, ...]:
    places = {name: tuple(map(int, name.split(","))) for name in metric.cells}
    high, wide = (1 + max(axis) for axis in zip(*places.values(), strict=True))
    most = max((v for bar in metric.bars for v in bar.by_dim.value if v is not None), default=0.0)

    def grid(bar: Bar) -> tuple[list[float | None], ...]:
        rows: tuple[list[float | None], ...] = tuple([None] * wide for _ in range(high))
        for name, (row, column) in places.items():
            (cell,) = metric.cells[name].values()
            rows[row][column] = bar.by_dim.value[cell]
        return rows

    return tuple(Grid(bar.latent, grid(bar), max(most, 1e-6), bar.latent) for bar in metric.bars)


SECTION = Section("Attribution", 36, build)
