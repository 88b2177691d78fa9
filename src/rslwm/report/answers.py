"""Figures that answer a question with several metrics or dimensions together, for the page and as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rslwm.evals.attribution import ACTIONS, DECODED, MAP, STATE
from rslwm.evals.geometry import KEPT
from rslwm.report.charts import Inks, mark
from rslwm.report.palette import FAINT, Ink
from rslwm.verdict.decide import Verdict
from rslwm.verdict.scale import Bar, Summary

STYLES = {"actions": "-", "variance": "--", "random": ":", "near": "-", "far": "--"}
"""Of lines, by the first word of what they show."""


@dataclass(frozen=True)
class Answer:
    """A figure, the question that it answers, and what is to be seen in it."""

    name: str
    question: str
    caption: str
    figure: Figure


def draw(verdict: Verdict, inks: Inks) -> Iterator[Answer]:
    """Those that the run has data for."""
    known = {metric.info.name: metric for metric in verdict.metrics if metric.dims}
    if KEPT.name in known:
        caption = (
            "The error that encoder latents allow over that of generated ones, by frames ahead: 1 is all that the "
            "encoder knows. Solid: within a few steps of a contact; dashed: far from any."
        )
        yield Answer("geometry", KEPT.question, caption, _kept(known[KEPT.name], inks))
    if ACTIONS.name in known:
        caption = (
            "A row a space. What is still read and decoded when directions of the latents are removed: solid those "
            "that tell actions, dashed those of the greatest variance, dotted random ones. On the right the places of "
            "the grid that actions are read from, the darker the more."
        )
        yield Answer("attribution", ACTIONS.question, caption, _parts(known, inks))


def _kept(metric: Summary, inks: Inks) -> Figure:
    """A panel for everything that is read out, lines near contact and far from it."""
    parts = [*dict.fromkeys(dim.split()[-1] for dim in metric.cells)]
    figure = Figure(figsize=(2.5 * len(parts) + 0.5, 2.6), layout="constrained")
    for panel, part in zip(figure.subplots(1, len(parts), squeeze=False, sharey=True)[0], parts, strict=True):
        for bar in metric.bars:
            for dim in (dim for dim in metric.cells if dim.endswith(part)):
                strand(panel, metric, bar, dim, inks[bar.latent], band=False)
        panel.set_title(part, loc="left")
        panel.set_xlabel("frames ahead")
    return figure


def _parts(known: Mapping[str, Summary], inks: Inks) -> Figure:
    """A row a space: curves over the number of directions removed, and the map of places."""
    curves = [known[info.name] for info in (ACTIONS, STATE, DECODED) if info.name in known]
    spaces, columns = len(known[ACTIONS.name].bars), len(curves) + (MAP.name in known)
    figure = Figure(figsize=(2.5 * columns, 1.7 * spaces + 0.4), layout="constrained")
    panels = figure.subplots(spaces, columns, squeeze=False, sharex="col")
    for column, metric in enumerate(curves):
        for row, bar in enumerate(metric.bars):
            panel, ink = panels[row, column], inks[bar.latent]
            for dim in metric.cells:
                strand(panel, metric, bar, dim, ink)
            panel.sharey(panels[0, column])
            if not row:
                panel.set_title(f"{metric.info.name.removeprefix('directions_')} ({metric.info.unit})", loc="left")
            if not column:
                panel.set_ylabel(bar.latent)
        panels[-1, column].set_xlabel("directions removed")
    if MAP.name in known:
        _maps(panels[:, -1], known[MAP.name])
    return figure


def strand(axes: Axes, metric: Summary, bar: Bar, dim: str, ink: Ink, band: bool = True) -> None:
    """One dimension of one space over k, with its interval."""
    cells = metric.cells[dim]
    value, low, high = (
        np.array([column[place] for place in cells.values()], float)
        for column in (bar.by_dim.value, bar.by_dim.low, bar.by_dim.high)
    )
    style = STYLES.get(dim.split()[0], "-")
    drawn = axes.plot([*cells], value, style, color=ink.light, lw=1.4, label=dim)
    mark(ink, *drawn, *([axes.fill_between([*cells], low, high, color=ink.light, alpha=0.12, lw=0)] if band else []))
    axes.set_xticks([*cells][:: -(-len(cells) // 8)])
    axes.grid(axis="y", lw=0.8)
    axes.set_axisbelow(True)


def _maps(panels: np.ndarray, metric: Summary) -> None:
    """Places of the grid, all spaces on one scale."""
    places = {name: tuple(map(int, name.split(","))) for name in metric.cells}
    side = tuple(1 + max(axis) for axis in zip(*places.values(), strict=True))
    highest = max((v for bar in metric.bars for v in bar.by_dim.value if v is not None), default=0.0)
    for panel, bar in zip(panels, metric.bars, strict=True):
        values = np.full(side, np.nan)
        for name, place in places.items():
            (cell,) = metric.cells[name].values()
            values[place] = np.nan if bar.by_dim.value[cell] is None else bar.by_dim.value[cell]
        panel.pcolormesh(values, cmap="Greys", vmin=0, vmax=max(highest, 1e-6), edgecolors=FAINT, lw=0.2)
        panel.invert_yaxis()
        panel.set_aspect("equal")
        panel.set_axis_off()
    panels[0].set_title("where actions are read", loc="left")
