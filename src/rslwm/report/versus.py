"""A page on two runs: what differs in their configurations, and what changed in every measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rslwm.report.charts import Chart, Panel, Series
from rslwm.report.page import Page, Part
from rslwm.report.palette import inks
from rslwm.serialisation import to_dict
from rslwm.study.record import Judged
from rslwm.verdict.decide import Verdict
from rslwm.verdict.versus import Change, changes

PAGE = "versus.html"


def build_versus(first: Path, second: Path) -> Path:
    """Write ``report/versus.html`` into the second run's folder; returns it.

    Raises:
        DataError: one of them is no finished run, or they have nothing in common.
    """
    runs = [Judged.load(folder) for folder in (first, second)]
    verdicts = [Verdict.load(folder / "verdict.json") for folder in (first, second)]
    prints = [run.record.data.get("fingerprint") for run in runs]
    paired = prints[0] is not None and prints[0] == prints[1]
    infos = {name: info for name, info in runs[0].metrics.items() if name in runs[1].metrics}
    found = changes(runs[0].rows, runs[1].rows, infos, runs[0].config.verdict, paired)
    shared = [space for space in verdicts[0].spaces if any(change.latent == space for change in found)]
    families = dict(zip(verdicts[0].spaces, verdicts[0].families, strict=True))
    page = Page(inks(shared, [families[space] for space in shared]), second / "report" / "versus", {})
    page.figures.mkdir(parents=True, exist_ok=True)
    shown = {
        "names": _names(first, second),
        "paired": paired,
        "axes": _axes(verdicts, shared),
        "charts": [chart for chart in [_chart(found, shared)] if chart],
        "changes": found,
        "differs": [*_differences(to_dict(runs[0].config), to_dict(runs[1].config))],
        "confidence": verdicts[0].confidence,
    }
    parts = {
        name: Part(title, page.fill(f"versus_{name}.html.j2", shown))
        for name, title in (("changes", "Every measure"), ("configuration", "Configuration"))
    }
    out = second / "report" / PAGE
    opening = page.fill("versus.html.j2", shown)
    out.write_text(page.whole("What changed between two runs?", "Changes", opening, parts), encoding="utf-8")
    return out


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Of the folders, with as many of those around them as it takes to tell them apart."""
    one, other = first.resolve().parts, second.resolve().parts
    length = next((n for n in range(1, max(len(one), len(other)) + 1) if one[-n:] != other[-n:]), 1)
    return "/".join(one[-length:]), "/".join(other[-length:])


def _axes(verdicts: Sequence[Verdict], spaces: Sequence[str]) -> list[tuple[str, str, list[Any]]]:
    """By axis and space both standings."""
    standings = [
        {(axis.axis, s.latent): s for axis in verdict.axes.values() for s in axis.standings} for verdict in verdicts
    ]
    return [
        (axis, space, [side[axis, space] for side in standings])
        for axis in verdicts[0].axes
        for space in spaces
        if all((axis, space) in side for side in standings)
    ]


def _chart(found: Sequence[Change], spaces: Sequence[str]) -> Chart | None:
    """Changes of the scored metrics, in parts of their scores."""
    scored = [change for change in found if change.score and change.info.scored]
    names = tuple(dict.fromkeys(change.info.name for change in scored))
    series = []
    for place, space in enumerate(spaces):
        own = [(change.info.name, change.score) for change in scored if change.latent == space and change.score]
        shift = (place - (len(spaces) - 1) / 2) * 0.7 / len(spaces)
        rows = [names.index(name) + shift for name, _ in own]
        values, left, right = ([getattr(score, end) for _, score in own] for end in ("value", "low", "high"))
        points = [name for name, _ in own]
        series.append(Series(space, values, rows, left=left, right=right, space=space, points=points))
    panel = Panel(tuple(series), x="change of the score", names=names, zero=True)
    caption = (
        "Second run minus first, in parts of the score's scale in the first; right of the line is better. Bars are "
        "intervals over episodes alone: what another training would change isn't in them."
    )
    height = 1.1 + 0.34 * len(names)
    return Chart("versus", "Change of every scored metric", (panel,), caption, height=height) if names else None


def _differences(first: Any, second: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields that differ, with both values."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in dict.fromkeys([*first, *second]):
            yield from _differences(first.get(key), second.get(key), f"{name}.{key}" if name else str(key))
    elif first != second:
        yield name, first, second
