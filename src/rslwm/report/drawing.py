"""Draws a chart, once: into files, and into the page as SVG whose colours follow its style sheet, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter

from rslwm.report.charts import Chart, Grid, Matrix, Numbers, Panel, Series
from rslwm.report.palette import FAINT, RULE, SOFT, STYLE, TEXT, Ink

Inks = Mapping[str, Ink]

SPACE = "space-"
"""What belongs to a space has this and its place in the study as id."""
SHEET = {TEXT: "var(--text)", SOFT: "var(--soft)", FAINT: "var(--faint)", RULE: "var(--rule)"}
"""The page's names for the colours of all that belongs to no space."""
WIDTHS = {1: 4.6, 2: 3.9, 3: 3.2, 4: 2.5, 5: 2.2, 6: 1.8}
"""Of a panel by their number in a line, in inches."""
MARGIN = 0.68
"""For numbers on the left of a panel, in inches."""
LETTER = 0.072
"""Width of text, in inches."""


@dataclass(frozen=True)
class Drawing:
    """``spots`` are where the chart's table has its rows, in the units of the SVG; None where nothing is drawn."""

    chart: Chart
    figure: Figure
    spots: list[tuple[float, float] | None]
    inks: Inks

    def inline(self) -> Markup:
        """As SVG for the page: text in the page's font, colours and marks of spaces from its style sheet."""
        buffer = io.StringIO()
        with matplotlib.rc_context({**STYLE, "svg.fonttype": "none"}):
            self.figure.savefig(buffer, format="svg", transparent=True)
        drawn = buffer.getvalue()
        box = re.search(r'viewBox="([^"]*)"', drawn)
        assert box
        body = drawn[drawn.index("</metadata>") + len("</metadata>") : drawn.rindex("</svg>")]
        # Styles and ids would hold for the whole page, and all that is drawn lies inside its axes.
        for foreign in (r"<defs>\s*<(style|clipPath).*?</defs>", r' clip-path="[^"]*"', r"<!--.*?-->"):
            body = re.sub(foreign, "", body, flags=re.DOTALL)
        body = re.sub(rf'<g id="{SPACE}(\d+)"', r'<g class="s\1" data-space="\1"', body)
        body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
        # Marks are looked up by id; those of another figure may look alike, but are another's to hide.
        prefix = re.sub(r"\W", "-", self.chart.name)
        body = re.sub(r'(id="|href="#)(?=[mC])', rf"\g<1>{prefix}-", body)
        body = re.sub(r"(\d\.\d\d)\d+(?=[^<>]*>)", r"\1", re.sub(r"\n\s*", "\n", body))  # a hundredth of a point
        for colour, name in {**SHEET, **{ink.light: "var(--ink)" for ink in self.inks.values()}}.items():
            body = body.replace(colour, name)
        return Markup(f'<svg viewBox="{box[1]}" aria-hidden="true">{body.strip()}</svg>')

    def save(self, folder: Path) -> None:
        """As SVG and PNG, with a legend."""
        self._legend()
        with matplotlib.rc_context(STYLE):
            for suffix, metadata in ((".svg", {"Date": None}), (".png", None)):
                # No date, so that the same run gives the same file.
                path = (folder / self.chart.name).with_suffix(suffix)
                self.figure.savefig(path, metadata=metadata, bbox_inches="tight", pad_inches=0.08)

    def _legend(self) -> None:
        found = [self.inks[space] for space in self.chart.spaces if space in self.inks]
        if len(found) > 1 and not all(isinstance(panel, Matrix) for panel in self.chart.panels):
            handles = [Line2D([], [], color=ink.light, marker=ink.marker, ls="", label=ink.name) for ink in found]
            self.figure.legend(
                handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=min(len(found), 6), frameon=False
            )


def draw(chart: Chart, inks: Inks) -> Drawing:
    """With its panels in lines, placed by hand: to have matplotlib find the room takes it twice the time."""
    columns = chart.columns
    lines = -(-len(chart.panels) // columns)
    margins, wide = _margins(chart), WIDTHS.get(columns, WIDTHS[6])
    inner, bottom, top = wide - MARGIN - 0.15, 0.5, 0.34
    width, height = sum(margins) + columns * (inner + 0.15), lines * chart.height
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        spots: list[tuple[float, float] | None] = []
        for place, panel in enumerate(chart.panels):
            row, column = divmod(place, columns)
            left = sum(margins[: column + 1]) + column * (inner + 0.15)
            base, high = height - (row + 1) * chart.height + bottom, chart.height - bottom - top
            axes = figure.add_axes((left / width, base / height, inner / width, high / height))
            fill(panel, axes, inks)
            axes.set_title(panel.title, loc="left")
            axes.set_xlabel(panel.x)
            axes.set_ylabel(panel.y)
            axes.set_axisbelow(True)
            if margins[column] < MARGIN and _names(panel):
                axes.set_yticklabels([])
            spots += _spots(panel, axes, height)
    return Drawing(chart, figure, spots, inks)


def _margins(chart: Chart) -> list[float]:
    """Inches on the left of every column: what names on y need, which are written once where all have the same."""
    named = [[_names(panel) for panel in chart.panels[column :: chart.columns]] for column in range(chart.columns)]
    margins = [max([MARGIN, *(LETTER * len(n) + 0.15 for names in column for n in names)]) for column in named]
    same = {names for column in named for names in column}
    if len(same) == 1 and same != {()}:
        return [margins[0], *[0.15] * (chart.columns - 1)]
    return margins


def _names(panel: Panel | Matrix | Grid) -> tuple[str, ...]:
    return panel.rows if isinstance(panel, Matrix) else panel.names


def _spots(panel: Panel | Matrix | Grid, axes: Axes, height: float) -> list[tuple[float, float] | None]:
    """In points from the top left corner, as SVG counts."""
    axes.apply_aspect()
    found: list[tuple[float, float] | None] = []
    for x, y in panel.cells():
        if x is None or y is None:
            found.append(None)
            continue
        right, up = axes.transData.transform((x, y)) / axes.figure.dpi * 72
        found.append((round(float(right), 1), round(72 * height - float(up), 1)))
    return found


@singledispatch
def fill(panel: Panel | Matrix | Grid, axes: Axes, inks: Inks) -> None:
    raise TypeError(panel)


@fill.register
def _(panel: Panel, axes: Axes, inks: Inks) -> None:
    if panel.square:
        axes.plot([0, 1], [0, 1], ":", color=FAINT, lw=1)
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(-0.04, 1.04)
        axes.set_aspect("equal")
    if panel.zero:
        axes.axvline(0, color=FAINT, lw=1)
    if panel.log:
        axes.set_xscale("log")
        axes.minorticks_off()
    for one in panel.series:
        _series(one, axes, inks.get(one.space))
    if panel.names:
        axes.set_yticks(range(len(panel.names)), panel.names)
        axes.set_ylim(len(panel.names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
    if panel.ticks:
        ticks = panel.ticks[:: -(-len(panel.ticks) // 8)]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    else:
        if not panel.log:
            axes.locator_params(axis="x", nbins=5)
        if axes.get_xlim()[1] > 1e4:
            axes.xaxis.set_major_formatter(EngFormatter())
    if panel.span:
        axes.set_ylim(*panel.span)
    axes.grid(axis="x" if panel.names else "y", lw=0.8)


def _series(one: Series, axes: Axes, ink: Ink | None) -> None:
    colour, marker = (ink.light, ink.marker) if ink else (SOFT, "")
    x, y = _array(one.x), _array(one.y)
    style: dict = {"color": colour, "lw": 1.5 if ink else 1.2, "ls": one.line or "none"}
    if one.marked:
        style |= {"marker": marker, "ms": 3.2 if one.line or one.small else 6, "alpha": 0.45 if one.small else None}
    artists: list[Artist] = list(axes.plot(x, y, **style))
    if one.low:
        low, high = _array(one.low), _array(one.high)
        if one.line and one.banded:
            artists.append(axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0))
        elif not one.line:
            artists.append(axes.vlines(x, low, high, color=colour, lw=1.3, alpha=0.5))
    if one.left:
        artists.append(axes.hlines(y, _array(one.left), _array(one.right), color=colour, lw=1.3, alpha=0.5))
    if ink:
        for artist in artists:
            mark(ink, artist)


@fill.register
def _(panel: Matrix, axes: Axes, inks: Inks) -> None:
    for row, (name, values) in enumerate(zip(panel.rows, panel.values, strict=True)):
        for column, value in enumerate(values):
            if value is None:
                continue
            full = float(np.clip((value - panel.worst) / (panel.best - panel.worst), 0, 1))
            _cell(axes, inks[name], column, row, 0.06 + 0.5 * full)
            if panel.labelled:
                text = axes.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=8)
                mark(inks[name], text)
    axes.set_xticks(np.arange(len(panel.columns)) + 0.5, panel.columns)
    axes.set_yticks(np.arange(len(panel.rows)) + 0.5, panel.rows)
    _frameless(axes, len(panel.columns), len(panel.rows))


@fill.register
def _(panel: Grid, axes: Axes, inks: Inks) -> None:
    for row, values in enumerate(panel.values):
        for column, value in enumerate(values):
            if value is not None:
                _cell(axes, inks[panel.space], column, row, float(np.clip(value / panel.most, 0.02, 1)))
    axes.set_xticks([])
    axes.set_yticks([])
    _frameless(axes, max(map(len, panel.values)), len(panel.values))
    axes.set_aspect("equal")


def _cell(axes: Axes, ink: Ink, column: int, row: int, alpha: float) -> None:
    mark(ink, axes.add_patch(Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, color=ink.light, alpha=alpha, lw=0)))


def _frameless(axes: Axes, columns: int, rows: int) -> None:
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def mark(ink: Ink, artist: Artist) -> None:
    """Let the page's style sheet colour what belongs to a space."""
    artist.set_gid(f"{SPACE}{ink.index}")


def _array(values: Numbers) -> np.ndarray:
    return np.array(values, float)
