"""The report: one HTML file that needs nothing else, neither network nor fonts nor the run's folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import rslwm
from rslwm.report import advice, commands, summary
from rslwm.report.charts import Chart
from rslwm.report.drawing import Inks, draw
from rslwm.report.formats import Track, format_cost, mean_of, number, prose
from rslwm.report.run import Run
from rslwm.report.sections import sections
from rslwm.reproduce.against import Beside
from rslwm.reproduce.table import agreement
from rslwm.reproduce.table import number as beside_number
from rslwm.verdict.axis import AxisVerdict


def build_report(path: Path, beside: Beside | None = None) -> Path:
    """Write ``report/index.html`` and ``report/figures/`` into a run's folder; returns the page. With ``beside``, the
    paper's numbers have a section.

    Raises:
        DataError: the run has no verdict or no record, or one of its files is damaged.
    """
    run = replace(Run.load(path), beside=beside)
    figures = path / "report" / "figures"
    shutil.rmtree(figures, ignore_errors=True)
    figures.mkdir(parents=True)
    summary.draw(run, figures)
    page = Page(run.inks, figures, commands.measuring(run.study) if run.study else {})
    shared = _shared(run)
    parts = {}
    for name, section in sections().items():
        found = section.build(run)
        if found is not None:
            parts[name] = Part(section.title, page.fill(f"{name}.html.j2", {**shared, **found}))
    opening = page.fill("opening.html.j2", {**shared, **_opening(run)})
    out = path / "report" / "index.html"
    partial = out.with_name("index.html.partial")
    partial.write_text(page.whole("Which latent space?", "Verdict", opening, parts), encoding="utf-8")
    os.replace(partial, out)
    return out


@dataclass(frozen=True)
class Part:
    """A section that is filled in, and what the navigation calls it."""

    title: str
    body: Markup


@dataclass(frozen=True)
class Page:
    """Fills templates. What they draw under a heading is kept in the folder ``figures``, too; ``commands`` measure a
    metric."""

    inks: Inks
    figures: Path
    commands: Mapping[str, str]

    @cached_property
    def environment(self) -> Environment:
        loaders = [PackageLoader("rslwm.report", folder) for folder in ("templates", "sections")]
        environment = Environment(
            loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        environment.filters.update(cost=format_cost, number=number, prose=prose, mean_of=mean_of)
        environment.filters.update(estimate=beside_number, agreement=agreement)
        environment.globals.update(figure=self.figure, asset=self.asset, inks=self.inks)
        return environment

    def fill(self, template: str, shown: Mapping[str, Any]) -> Markup:
        return Markup(self.environment.get_template(template).render(shown))

    def whole(self, title: str, first: str, opening: Markup, parts: Mapping[str, Part]) -> str:
        """``first`` is what the navigation calls the opening."""
        return str(self.fill("index.html.j2", {"title": title, "first": first, "opening": opening, "parts": parts}))

    def asset(self, name: str) -> Markup:
        assert self.environment.loader is not None
        return Markup(self.environment.loader.get_source(self.environment, name)[0])

    def figure(self, chart: Chart, heading: bool = True) -> Markup:
        """A chart with its legend, numbers, and buttons that save them."""
        drawing = draw(chart, self.inks)
        columns, rows = chart.table()
        command = next((self.commands[name] for name in chart.metrics if name in self.commands), "")
        keys = [self.inks[space].index if space in self.inks else None for space in chart.owners]
        table = {"columns": columns, "rows": _rounded(rows), "at": drawing.spots, "keys": keys}
        data = json.dumps(table, separators=(",", ":"))
        filled = self.fill(
            "figure.html.j2",
            {
                "chart": chart,
                "heading": heading,
                "svg": drawing.inline(),
                "width": 72 * drawing.figure.get_figwidth(),
                "spaces": [self.inks[space] for space in chart.spaces if space in self.inks],
                "command": command,
                "data": Markup(data.replace("<", "\\u003c")),
            },
        )
        if heading:
            drawing.save(self.figures)
        return filled


def _rounded(rows: list[list[str | float | None]]) -> list[list[str | float | None]]:
    return [[float(f"{cell:.6g}") if isinstance(cell, float) else cell for cell in row] for row in rows]


def _shared(run: Run) -> dict[str, Any]:
    """What any section may show."""
    verdict = run.verdict
    standings = [s for axis in verdict.axes.values() for s in axis.standings]
    track = Track.around([0.0, 1.0, *(s.low for s in standings), *(s.high for s in standings)])
    return {
        "verdict": verdict,
        "record": run.record,
        "spaces": [run.inks[name] for name in verdict.ranking],
        "shown": list(verdict.axes),
        "scores": {name: _cells(axis, track) for name, axis in verdict.axes.items()},
        "track": track,
        "asks": advice.QUESTIONS,
        "config": run.config,
        "version": rslwm.__version__,
    }


def _opening(run: Run) -> dict[str, Any]:
    """What stands above all sections."""
    verdict, record = run.verdict, run.record
    training = {space.name: space.cost.get("training_seconds") for space in record.spaces}
    known = [seconds for seconds in training.values() if seconds]
    seeds = tuple(seed for space in record.spaces for seed in space.seeds)
    return {
        "note": run.note,
        "notes": [*record.notes, *verdict.notes],
        "decisions": [*verdict.decisions.values()],
        "alone": any(axis.noise.origin == "unknown" for axis in verdict.axes.values()),
        "answers": advice.answers(verdict),
        "steps": advice.steps(verdict, seeds, str(record.data.get("uri", "")).startswith("sim:")),
        "training": {name: training.get(name) for name in verdict.spaces},
        "cheapest": min(known, default=None),
    }


def _cells(axis: AxisVerdict, track: Track) -> dict[str, dict[str, Any]]:
    """Every space's score, and where it lies on the scores' track."""
    cells = {}
    for rank, s in enumerate(axis.standings, 1):
        if axis.winner or len(axis.standings) == 1:
            tag = "best" if s.latent == axis.winner else ""
        elif s.latent not in axis.contenders:
            tag = "out"
        else:
            tag = "leads" if rank == 1 and advice.leads(axis) else "open"
        span = track.span(s.low, s.high)
        cells[s.latent] = {"standing": s, "rank": rank, "tag": tag, "at": track.at(s.score), "span": span}
    return cells
