"""Charts of one metric or several, for any section: over frames ahead, over what else k counts, by cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from rslwm.report.charts import Chart, Matrix, Numbers, Panel, Series
from rslwm.verdict.scale import Bar, Summary

BOUNDS = {"floor": ":", "ceiling": "--"}
AHEAD = "frames ahead"
BOUNDED = "Arrows point to better. Dotted is the floor, dashed the ceiling; bands are intervals over episodes."


def curve(metric: Summary, title: str = "", x: str = AHEAD) -> Panel:
    """A metric over k: a line and band a space, the mean floor dotted, the best ceiling dashed."""
    lines = [
        Series(bar.latent, metric.ks, bar.curve.value, bar.curve.low, bar.curve.high, space=bar.latent, line="-")
        for bar in metric.bars
    ]
    bounds = [Series(role, metric.ks, _bound(metric, role), line=line, marked=False) for role, line in BOUNDS.items()]
    shown = [one for one in bounds if any(value is not None for value in one.y)]
    return Panel((*shown, *lines), title or named(metric), x, y=unit(metric), ticks=tuple(metric.ks))


def _bound(metric: Summary, role: str) -> Numbers:
    """The mean of the floors, the best of the ceilings, at every k; the known one where none was measured."""
    measured = np.stack([np.array(getattr(bar.curve, role), float) for bar in metric.bars])
    known = np.isfinite(measured)
    if role == "ceiling":
        best = (np.fmax if metric.info.higher_is_better else np.fmin).reduce(measured)
    else:
        best = np.where(known.any(0), np.where(known, measured, 0).sum(0) / known.sum(0).clip(1), np.nan)
    analytic = getattr(metric.info, f"{role}_value")
    return [float(value) if np.isfinite(value) else analytic for value in best]


def strands(metric: Summary, dim: str, x: str, title: str, span: tuple[float, float] | None = None) -> Panel:
    """One dimension of a metric over k, a line and band a space."""
    series, cells = [], metric.cells[dim]
    for bar in metric.bars:
        value, low, high = cells_of(bar, cells.values())
        series.append(Series(bar.latent, [*cells], value, low, high, space=bar.latent, line="-"))
    return Panel(tuple(series), title, x, y=unit(metric), ticks=tuple(cells), span=span)


def spanning(metric: Summary, dims: Iterable[str]) -> tuple[float, float]:
    """What these dimensions go over, for panels to share."""
    cells = [place for dim in dims for place in metric.cells[dim].values()]
    known = [v for bar in metric.bars for part in cells_of(bar, cells) for v in part if v is not None]
    margin = 0.05 * (max(known) - min(known) or 1.0)
    return min(known) - margin, max(known) + margin


def by_k(metric: Summary, title: str, x: str = AHEAD) -> Matrix:
    """A metric by space and k."""
    curves = [bar.curve for bar in metric.bars]
    columns = tuple(map(str, metric.ks))
    return _matrix(metric, columns, [(c.value, c.low, c.high) for c in curves], title, x)


def by_dim(metric: Summary, title: str, x: str, dims: Mapping[str, str] | None = None) -> Matrix:
    """A metric by space and dimension, of several k the last; ``dims`` are the columns' names of those shown."""
    shown = dims or {dim: dim for dim in metric.cells}
    places = [[*metric.cells[dim].values()][-1] for dim in shown]
    return _matrix(metric, tuple(shown.values()), [cells_of(bar, places) for bar in metric.bars], title, x)


def _matrix(metric: Summary, columns: tuple[str, ...], cells: Sequence[tuple], title: str, x: str) -> Matrix:
    value, low, high = (tuple(part) for part in zip(*cells, strict=True))
    known = [v for row in value for v in row if v is not None]
    ends = sorted((*known, *(v for v in (metric.info.floor_value, metric.info.ceiling_value) if v is not None)))
    first, last = (ends[0], ends[-1]) if ends and ends[0] < ends[-1] else (0.0, 1.0)
    worst, best = (first, last) if metric.info.higher_is_better else (last, first)
    return Matrix(tuple(bar.latent for bar in metric.bars), columns, value, low, high, worst, best, title, x)


def cells_of(bar: Bar, places: Iterable[int]) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Value, low and high of these of a space's dimensions."""
    places = [*places]
    value, low, high = ([column[i] for i in places] for column in (bar.by_dim.value, bar.by_dim.low, bar.by_dim.high))
    return value, low, high


def sheet(name: str, title: str, metrics: Sequence[Summary], caption: str = BOUNDED, x: str = AHEAD) -> Chart:
    """Several metrics, a panel each."""
    panels = tuple(curve(metric, x=x) for metric in metrics)
    return Chart(name, title, panels, caption, metrics=tuple(metric.info.name for metric in metrics))


def named(metric: Summary) -> str:
    return metric.info.name.replace("_", " ")


def unit(metric: Summary) -> str:
    """What y is in, with an arrow to where better is."""
    arrow = "↑" if metric.info.higher_is_better else "↓"
    return arrow if metric.info.unit == "1" else f"{metric.info.unit} {arrow}"
