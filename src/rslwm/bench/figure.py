"""A benchmark at a glance: one pair of bars a comparison, how many times faster, and what counting would allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rslwm.report.figures import STYLE
from rslwm.report.palette import COLOURS

if TYPE_CHECKING:
    from rslwm.bench.result import Comparison

OURS, BASELINE, BOUND = COLOURS["semantic"][0][0], COLOURS["floor"][1][0], COLOURS["reconstruction"][0][0]
THICK = 0.34
LOGARITHMIC = 40
"""Ratios further apart than this share a logarithmic axis."""


def draw(comparisons: Sequence[Comparison], stem: Path) -> None:
    """Write the figure as ``stem.svg`` and ``stem.png``."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 1.1 + 0.62 * len(comparisons)), layout="constrained")
        _bars(figure, figure.subplots(), comparisons)
        for suffix in (".svg", ".png"):
            metadata = {"Date": None} if suffix == ".svg" else None  # the same result gives the same file
            figure.savefig(stem.with_name(stem.name + suffix), bbox_inches="tight", metadata=metadata)


def _bars(figure: Figure, axes: Axes, comparisons: Sequence[Comparison]) -> None:
    for y, comparison in enumerate(comparisons):
        ratio, bound, above = comparison.ratio, comparison.bound, y - THICK / 2
        axes.barh(above, ratio, THICK, color=OURS, label="ours (range of the rounds)")
        axes.barh(y + THICK / 2, 1, THICK, color=BASELINE, label="what it is compared with")
        axes.hlines(above, min(comparison.ratios), max(comparison.ratios), color="#222222", lw=1.2)
        if bound:
            axes.vlines(bound, y - THICK, y, color=BOUND, lw=2, label="bound by counting")
        end = max(bound or 0, *comparison.ratios)
        axes.annotate(_words(comparison), (end, above), (5, 0), textcoords="offset points", va="center")
    furthest = max(max(c.bound or 0, *c.ratios) for c in comparisons)
    smallest = min(1, *(min(c.ratios) for c in comparisons))
    if furthest > LOGARITHMIC * smallest:
        axes.set_xscale("log")
        axes.set_xlim(smallest / 1.5, furthest * (furthest / smallest) ** 0.6)
    else:
        axes.set_xlim(0, 1.7 * furthest)
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.set_yticks(range(len(comparisons)), [c.title for c in comparisons])
    axes.set_ylim(len(comparisons) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.set_xlabel("speed, relative to what it is compared with")
    axes.grid(axis="x", color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=3, frameon=False)


def _words(comparison: Comparison) -> str:
    bound = f" (bound {comparison.bound:.2f}x)" if comparison.bound else ""
    return f"{comparison.ratio:.2f}x{bound}   {comparison.ours.rate:.3g} {comparison.ours.unit}/s"
