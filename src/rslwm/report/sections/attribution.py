"""Which part of the latents matters?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rslwm.evals.attribution import ACTIONS, DECODED, MAP, STATE
from rslwm.report.charts import Axes, Chart, Grid
from rslwm.report.curves import strands
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.verdict.scale import Bar, Summary

STYLES = {"actions": "-", "variance": "--", "random": ":"}
READ = {ACTIONS.name: "actions read (r)", STATE.name: "error of positions (cm)", DECODED.name: "decoded (dB)"}


def build(run: Run) -> dict[str, Any] | None:
    known = run.measured([*READ, MAP.name])
    charts = []
    if shown := [name for name in READ if name in known]:
        panels: list[Axes] = []
        for bar in known[shown[0]].bars:
            for name in shown:
                panel = strands(_only(known[name], bar.latent), STYLES, "directions removed", title=f"{bar.latent}")
                panels.append(replace(panel, y=READ[name]))
        caption = (
            "What is still read and decoded when directions of the latents are removed: solid those that tell actions, "
            "dashed those of the greatest variance, dotted random ones."
        )
        charts.append(
            Chart("attribution", "Reading with directions removed", tuple(panels), caption, len(shown), tuple(shown),
                  height=2.1)
        )  # fmt: skip
    if places := known.get(MAP.name):
        caption = "Places of the latent grid that actions are read from; the fuller, the more. One scale for all."
        charts.append(Chart("places", "Where actions are read", _maps(places), caption, 6, (MAP.name,), height=2.6))
    return {"charts": charts} if charts else None


def _only(metric: Summary, latent: str) -> Summary:
    return replace(metric, bars=tuple(bar for bar in metric.bars if bar.latent == latent))


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
