"""The verdict as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rslwm.types import REFERENCE
from rslwm.verdict.axis import AxisVerdict
from rslwm.verdict.decide import Verdict
from rslwm.verdict.wording import parts


def render(verdict: Verdict, cost: Mapping[str, float] | None = None) -> Group:
    """One line a latent space, best first, and one a sanity row, then the verdict in sentences.

    Args:
        cost: training seconds of each space; shown as multiples of the cheapest.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("latent space", "family", *verdict.axes, *(["cost"] if cost else [])):
        table.add_column(column, no_wrap=True, justify="right" if column == "cost" else "left")
    family = dict(zip(verdict.spaces, verdict.families, strict=True))
    for latent in verdict.ranking:
        cells = [_cell(axis, latent) for axis in verdict.axes.values()]
        relative = [f"{cost[latent] / min(cost.values()):.1f}x" if latent in cost else "-"] if cost else []
        table.add_row(latent, family[latent], *cells, *relative)
    for latent, scores in verdict.references.items():
        known = ("-" if score is None else _short(score) for score in scores.values())
        table.add_row(latent, REFERENCE, *known, *(["-"] if cost else []), style="dim")
    lines = [Text(sentence) for sentence in (*verdict.decisions.values(), *verdict.notes)]
    made = [f"{name} = {parts(axis)}" for name, axis in verdict.axes.items() if len(axis.parts) > 1]
    weights = f"Weights, and shares of the axis's noise: {'; '.join(made)}." if made else ""
    alone = any(axis.noise.origin == "unknown" for axis in verdict.axes.values())
    over = "episodes alone" if alone else "episodes and trainings"
    legend = f"Scores: 0 knows nothing, 1 loses nothing; in brackets the interval over {over}."
    lines += [Text(line, style="dim") for line in (legend, verdict.training, weights) if line]
    return Group(table, Text(), *lines)


def render_robustness(verdict: Verdict) -> Table:
    """One line a perturbation and metric, a column a space: what is lost of the score or, where the metric has none, in
    its own unit."""
    table = Table(box=None, pad_edge=False, header_style="dim", title="out of distribution", title_justify="left")
    for column in ("perturbation", "metric", "", *verdict.ranking):
        table.add_column(column, no_wrap=True)
    units = {metric.info.name: metric.info.unit for metric in verdict.metrics}
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for drop in verdict.robustness:
        change = drop.score or drop.value
        place = drop.perturbation, drop.metric, "score" if drop.score else units[drop.metric]
        lines.setdefault(place, {})[drop.latent] = f"{change.value:+.2f} [{change.low:+.2f} {change.high:+.2f}]"
    for place, cells in lines.items():
        table.add_row(*place, *(cells.get(latent, "-") for latent in verdict.ranking))
    return table


def _cell(axis: AxisVerdict, latent: str) -> Text:
    standing = next(s for s in axis.standings if s.latent == latent)
    text = f"{_short(standing.score)} [{_short(standing.low)} {_short(standing.high)}]"
    return Text(text, style="bold green" if latent == axis.winner else "")


def _short(score: float) -> str:
    """Two decimals without the leading zero, as in .61."""
    return f"{score:.2f}".replace("0.", ".", 1) if abs(score) < 0.995 else f"{score:.2f}"
