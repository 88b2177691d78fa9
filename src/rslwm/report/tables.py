"""A verdict's numbers as tables for a paper or a README: Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rslwm.report.formats import number
from rslwm.verdict.decide import Verdict

Table = tuple[list[str], list[list[str]]]
"""Names of the columns, and the rows."""


def write_tables(verdict: Verdict, folder: Path) -> list[Path]:
    """Write ``scores`` and ``metrics`` as .md and .tex; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in (("scores", scores(verdict)), ("metrics", metrics(verdict))):
        for suffix, form in ((".md", markdown), (".tex", latex)):
            path = folder / f"{name}{suffix}"
            path.write_text(form(*table), encoding="utf-8")
            written.append(path)
    return written


def scores(verdict: Verdict) -> Table:
    """A line a space, the best first, with intervals; the winner of an axis is in **bold**."""
    families = dict(zip(verdict.spaces, verdict.families, strict=True))
    rows = []
    for space in verdict.ranking:
        row = [space, families[space]]
        for axis in verdict.axes.values():
            s = next(standing for standing in axis.standings if standing.latent == space)
            text = f"{s.score:.2f} [{s.low:.2f}, {s.high:.2f}]"
            row.append(f"**{text}**" if axis.winner == space else text)
        rows.append(row)
    return ["latent space", "family", *verdict.axes], rows


def metrics(verdict: Verdict) -> Table:
    """A line a metric, a column a space."""
    rows = []
    for metric in verdict.metrics:
        bars = {bar.latent: bar for bar in metric.bars}
        known = [v for bar in metric.bars for v in (bar.low, bar.high) if v is not None]
        spread = max(known) - min(known) if known else 0.0
        unit = f" ({metric.info.unit})" if metric.info.unit != "1" else ""
        row = [f"{metric.info.name}{unit} {'↑' if metric.info.higher_is_better else '↓'}", metric.info.axis]
        for space in verdict.ranking:
            bar = bars[space]
            value, low, high = (number(v, spread) for v in (bar.value, bar.low, bar.high))
            row.append(f"{value} [{low}, {high}]" if bar.value is not None else "–")
        rows.append(row)
    return ["metric", "axis", *verdict.ranking], rows


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def latex(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """For the package booktabs."""
    lines = [" & ".join(map(_escaped, line)) + r" \\" for line in (columns, *rows)]
    head, *body = lines
    parts = [rf"\begin{{tabular}}{{{'l' * len(columns)}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    bold = re.fullmatch(r"\*\*(.*)\*\*", text)
    plain = re.sub(r"([#$%&_{}])", r"\\\1", bold[1] if bold else text)
    for sign, command in {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "−": "$-$", "–": "--", "²": "$^2$"}.items():
        plain = plain.replace(sign, command)
    return rf"\textbf{{{plain}}}" if bold else plain
