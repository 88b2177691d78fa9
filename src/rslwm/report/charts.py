"""Charts of measurements and scores. Each is drawn once, by matplotlib: into files, and into the page as SVG whose
colours follow its style sheet, light or dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rslwm.report.palette import FAINT, RULE, SOFT, TEXT, Ink
from rslwm.verdict.axis import AxisVerdict, Standing
from rslwm.verdict.policies import PolicyReport
from rslwm.verdict.scale import Summary

Inks = Mapping[str, Ink]

SPACE = "space-"
"""What belongs to a space has this and its place in the study as id."""
SHEET = {TEXT: "var(--text)", SOFT: "var(--soft)", FAINT: "var(--faint)", RULE: "var(--rule)"}
"""The page's names for the colours of all that belongs to no space."""


def horizon(axes: Axes, metric: Summary, inks: Inks) -> None:
    """A metric against the horizon: a line and band a space, the mean floor dotted, the best ceiling dashed."""
    for bar in metric.bars:
        ink, value, low, high = inks[bar.latent], *map(_array, (bar.curve.value, bar.curve.low, bar.curve.high))
        (line,) = axes.plot(metric.ks, value, color=ink.light, marker=ink.marker, ms=3.5, lw=1.6, label=bar.latent)
        mark(ink, line, axes.fill_between(metric.ks, low, high, color=ink.light, alpha=0.12, lw=0))
    best = np.fmax if metric.info.higher_is_better else np.fmin
    floors, ceilings = (np.stack([_array(getattr(bar.curve, role)) for bar in metric.bars]) for role in BOUNDS)
    known = np.isfinite(floors)
    floor = np.where(known.any(0), np.where(known, floors, 0).sum(0) / known.sum(0).clip(1), np.nan)
    for role, bound in zip(BOUNDS, (floor, best.reduce(ceilings)), strict=True):
        axes.plot(metric.ks, bound, BOUNDS[role], color=FAINT, lw=1)
    axes.set_xticks(metric.ks[:: math.ceil(len(metric.ks) / 8)])
    axes.set_xlabel("frames ahead")
    axes.grid(axis="y", lw=0.8)
    axes.set_axisbelow(True)


BOUNDS = {"floor": ":", "ceiling": "--"}


def tradeoff(axes: Axes, x_axis: AxisVerdict, y_axis: AxisVerdict, inks: Inks) -> None:
    """Two axes' scores against each other with their intervals; spaces at the top right have both."""
    xs, ys = (by_space(axis) for axis in (x_axis, y_axis))
    for name, ink in inks.items():
        x, y = xs[name], ys[name]
        lines = [
            *axes.plot([x.low, x.high], [y.score] * 2, color=ink.light, lw=1.3, alpha=0.55),
            *axes.plot([x.score] * 2, [y.low, y.high], color=ink.light, lw=1.3, alpha=0.55),
            *axes.plot(x.score, y.score, ink.marker, color=ink.light, ms=6.5),
        ]
        mark(ink, *lines)
    bottom, top = axes.get_ylim()
    heights = spread([(ys[name].score - bottom) / (top - bottom) for name in inks], 0.07)
    for (name, ink), height in zip(inks.items(), heights, strict=True):
        label = axes.annotate(
            name, (xs[name].score, ys[name].score), (1.02, height), textcoords="axes fraction", va="center",
            weight="bold", fontsize=8.5, zorder=0,
            arrowprops={"arrowstyle": "-", "color": RULE, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        mark(ink, label)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"{x_axis.axis} →")
    axes.set_ylabel(f"{y_axis.axis} →")
    axes.grid(lw=0.8)
    axes.set_axisbelow(True)


def dots(axes: Axes, axis: AxisVerdict, order: Sequence[str], inks: Inks) -> None:
    """Scores with intervals of one axis, one line a space, the first on top; the winner's marker is filled."""
    standings = by_space(axis)
    for y, name in enumerate(reversed(order)):
        s, ink = standings[name], inks[name]
        filled = ink.light if name == axis.winner else "white"
        axes.plot([s.low, s.high], [y, y], color=ink.light, lw=2.2, alpha=0.55, solid_capstyle="round")
        axes.plot(s.score, y, ink.marker, color=ink.light, ms=7, mfc=filled, mew=1.6)
    axes.set_yticks(range(len(order)), list(reversed(order)))
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_title(f"{axis.axis}: {axis.winner or 'no winner'}", loc="left")
    axes.tick_params(length=0)
    axes.grid(axis="x", lw=0.8)
    axes.set_axisbelow(True)


def agreement(axes: Axes, report: PolicyReport, ink: Ink) -> None:
    """Success of policies inside a world model against true success: all tasks together large, each of them small."""
    axes.plot([0, 1], [0, 1], ":", color=FAINT, lw=1)
    pairs = [
        (true, seen)
        for of_policy in zip(report.true, report.imagined, strict=True)
        for true, seen in zip(*of_policy, strict=True)
        if true is not None and seen is not None
    ]
    small = axes.plot(*zip(*pairs, strict=True), ink.marker, color=ink.light, ms=3, alpha=0.35)
    means = [[np.nanmean(_array(rates)) for rates in side] for side in (report.true, report.imagined)]
    mark(ink, *small, *axes.plot(*means, ink.marker, color=ink.light, ms=7))
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.set_aspect("equal")
    axes.set_xlabel("true success")
    axes.set_ylabel("success in the world model")
    axes.grid(lw=0.8)
    axes.set_axisbelow(True)


def by_space(axis: AxisVerdict) -> dict[str, Standing]:
    return {standing.latent: standing for standing in axis.standings}


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights pushed ``gap`` apart in the same order, about the same mean."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + gap)
    drift = sum(placed) / len(placed) - sum(heights) / len(heights)
    return [height - drift for height in placed]


def lay_out(figure: Figure) -> None:
    """Place everything for good: matplotlib would do it again for every file."""
    if figure.get_layout_engine():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def inline(figure: Figure, title: str, inks: Inks) -> Markup:
    """The figure as SVG for the page: text in the page's font, colours and marks of spaces from its style sheet."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True)
    drawn = buffer.getvalue()
    box = re.search(r'viewBox="([^"]*)"', drawn)
    assert box
    body = drawn[drawn.index("</metadata>") + len("</metadata>") : drawn.rindex("</svg>")]
    # Styles and ids would hold for the whole page, and all that is drawn lies inside its axes.
    for foreign in (r"<defs>\s*<(style|clipPath).*?</defs>", r' clip-path="[^"]*"', r"<!--.*?-->"):
        body = re.sub(foreign, "", body, flags=re.DOTALL)
    body = re.sub(rf'<g id="{SPACE}(\d+)"', r'<g class="s\1" data-space="\1"', body)
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
    body = re.sub(r"(\d\.\d\d)\d+(?=[^<>]*>)", r"\1", re.sub(r"\n\s*", "\n", body))  # a hundredth of a point
    for colour, name in {**SHEET, **{ink.light: "var(--ink)" for ink in inks.values()}}.items():
        body = body.replace(colour, name)
    name = escape(title)
    return Markup(f'<svg viewBox="{box[1]}" role="img" aria-label="{name}"><title>{name}</title>{body.strip()}</svg>')


def mark(ink: Ink, *artists: Artist) -> None:
    """Let the page's style sheet colour what belongs to a space."""
    for artist in artists:
        artist.set_gid(f"{SPACE}{ink.index}")


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array(values, float)
