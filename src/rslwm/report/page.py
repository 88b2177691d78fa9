"""The report: one HTML file that needs nothing else, neither network nor fonts nor the run's folder."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

import rslwm
from rslwm.evals.rows import TRUTH
from rslwm.report import answers, charts, figures, trials
from rslwm.report.charts import Inks
from rslwm.report.palette import STYLE
from rslwm.report.run import Clips, Run
from rslwm.reproduce.against import Beside
from rslwm.reproduce.table import agreement
from rslwm.reproduce.table import number as beside_number
from rslwm.study.record import RunRecord
from rslwm.types import AXES
from rslwm.verdict.axis import MIN_UNITS, OVERALL, AxisVerdict
from rslwm.verdict.decide import Verdict
from rslwm.verdict.predictors import Prediction
from rslwm.verdict.robustness import Drop
from rslwm.verdict.scale import Summary

QUESTIONS = {
    "fidelity": "Do decoded rollouts look like what really happened?",
    "planning": "Can actions be chosen by imagining their outcome?",
    "representation": "Can what matters be read out of latents, encoded and generated?",
    OVERALL: "The three axes together.",
}
COSTS = {
    "encoder_parameters": ("encoder parameters", "count"),
    "encoder_flops_per_frame": ("encoder FLOPs a frame", "count"),
    "encoder_training_flops": ("encoder training FLOPs", "count"),
    "encoder_frames_seen": ("frames the encoder saw", "count"),
    "world_model_parameters": ("world model parameters", "count"),
    "world_model_training_flops": ("world model training FLOPs", "count"),
    "latent_bytes_per_frame": ("latent bytes a frame", "bytes"),
    "training_seconds": ("training", "seconds"),
    "rollout_seconds": ("rollout, a frame", "seconds"),
    "plan_seconds": ("one plan", "seconds"),
    "peak_memory_mb": ("peak memory, MB", "plain"),
}
"""Cost figures that have a name and a format; others are shown under their key."""
MAX_CLIPS = 6
"""Clips embedded in a page; a PNG of seven rows and ten 64-pixel frames is about 300 kB."""
PREDICTORS = 8
"""Metrics that are listed for what they predict."""
PAIRS = (("fidelity", "planning"), ("fidelity", "representation"), ("representation", "planning"))


def build_report(path: Path, beside: Beside | None = None) -> Path:
    """Write ``report/index.html`` and ``report/figures/`` into a run's folder; returns the page. With ``beside``, the
    paper's numbers have a section.

    Raises:
        DataError: the run has no verdict or no record, or one of its files is damaged.
    """
    run = Run.load(path)
    out = path / "report"
    out.mkdir(exist_ok=True)
    figures.draw_all(run, out / "figures")
    environment = Environment(
        loader=PackageLoader("rslwm.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(cost=format_cost, number=number, prose=prose, mean_of=trials.mean_of)
    environment.filters.update(estimate=beside_number, agreement=agreement)
    page = out / "index.html"
    partial = out / "index.html.partial"
    with matplotlib.rc_context(STYLE):
        shown = context(run, environment) | {"beside": beside}
    partial.write_text(environment.get_template("index.html.j2").render(shown), encoding="utf-8")
    os.replace(partial, page)
    return page


def context(run: Run, environment: Environment) -> dict[str, Any]:
    """Everything that the template shows."""
    verdict, inks, axes = run.verdict, run.inks, run.verdict.axes
    standings = [s for axis in axes.values() for s in axis.standings]
    track = Track.around([0.0, 1.0, *(s.low for s in standings), *(s.high for s in standings)])
    return {
        "verdict": verdict,
        "record": run.record,
        "note": run.note,
        "notes": [*run.record.notes, *verdict.notes],
        "inks": inks,
        "legend": list(inks.values()),
        "spaces": [inks[name] for name in verdict.ranking],
        "shown": list(axes),
        "alone": any(axis.noise.origin == "unknown" for axis in axes.values()),
        "cards": [_card(verdict, verdict.axes[name]) for name in (OVERALL, *AXES) if name in axes],
        "scores": {name: _cells(axis, track) for name, axis in axes.items()},
        "track": track,
        "axes": [(axis, QUESTIONS[axis], _questions(verdict, axis, inks)) for axis in AXES],
        "pairs": _pairs(verdict, inks),
        "contrasts": _contrasts(axes),
        "robustness": _robustness(verdict),
        "policies": trials.policies(run),
        "predictors": _predictors(verdict),
        "costs": _costs(run.record),
        "clips": _clips(run.clips, verdict.ranking) if run.clips else None,
        "config": run.config,
        "version": rslwm.__version__,
        "style": _asset(environment, "style.css"),
        "script": _asset(environment, "report.js"),
    }


def _predictors(verdict: Verdict) -> dict[str, list[Prediction]]:
    """By what they predict, the best ones."""
    targets = dict.fromkeys(found.target for found in verdict.predictors)
    return {name: [p for p in verdict.predictors if p.target == name][:PREDICTORS] for name in targets}


def _asset(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _card(verdict: Verdict, axis: AxisVerdict) -> dict[str, Any]:
    """A decision for the top of the page: the axis's sentence without what the card says already."""
    sentence = verdict.decisions[axis.axis].removeprefix(f"{axis.axis}: ")
    first = axis.standings[0].latent
    for opening in (f"not decidable with {axis.units} held-out episodes. ", f"{first} leads. "):
        sentence = sentence.removeprefix(opening)
    best = {s.latent: s.best for s in axis.standings}
    return {"axis": axis, "sentence": sentence, "first": first, "best": best, "leads": _leads(axis)}


def _leads(axis: AxisVerdict) -> bool:
    """Is the first space of an axis ahead, but with one training each and therefore no winner?"""
    return axis.noise.origin != "measured" and axis.units >= MIN_UNITS and len(axis.standings) > 1


def _cells(axis: AxisVerdict, track: Track) -> dict[str, dict[str, Any]]:
    """Every space's score, and where it lies on the scores' track."""
    cells = {}
    for rank, s in enumerate(axis.standings, 1):
        if axis.winner or len(axis.standings) == 1:
            tag = "best" if s.latent == axis.winner else ""
        elif s.latent not in axis.contenders:
            tag = "out"
        else:
            tag = "leads" if rank == 1 and _leads(axis) else "open"
        span = track.span(s.low, s.high)
        cells[s.latent] = {"standing": s, "rank": rank, "tag": tag, "at": track.at(s.score), "span": span}
    return cells


def _questions(
    verdict: Verdict, axis: str, inks: Inks
) -> list[tuple[str, list[dict[str, Any]], dict[str, Any] | None]]:
    """What an axis asks, with its metrics and the figure that answers it, the scored ones first."""
    weights = {part.name: part.weight for part in verdict.axes[axis].parts} if axis in verdict.axes else {}
    found = sorted((m for m in verdict.metrics if m.info.axis == axis), key=lambda metric: bool(metric.unscored))
    asked: dict[str, list[dict[str, Any]]] = {}
    for metric in found:
        asked.setdefault(metric.info.question, []).append(_panel(metric, weights.get(metric.info.name), inks))
    drawn = {answer.question: answer for answer in answers.draw(verdict, inks)}
    shown = {
        question: {"chart": charts.inline(answer.figure, question, inks), "caption": answer.caption}
        for question, answer in drawn.items()
        if question in asked
    }
    return [(question, panels, shown.get(question)) for question, panels in asked.items()]


def _panel(metric: Summary, weight: float | None, inks: Inks) -> dict[str, Any]:
    """A metric, and a track for its values where right is better; without any number there is none."""
    info, bars = metric.info, metric.bars
    scale = metric.scale or (info.floor_value, info.ceiling_value)
    values = [v for bar in bars for v in (bar.value, bar.low, bar.high, bar.floor, bar.ceiling)]
    known = [v for v in (*values, *scale) if v is not None]
    unit = "" if info.unit == "1" else info.unit
    chart = None
    if len(metric.ks) > 1 and any(bar.value is not None for bar in bars):
        figure = Figure(figsize=(5.3, 3.2), layout="constrained")
        panel = figure.subplots()
        charts.horizon(panel, metric, inks)
        better = f"{unit} · {'up' if info.higher_is_better else 'down'} is better".removeprefix(" · ")
        panel.set_title(better, loc="left", weight="normal", size=9, color=charts.SOFT)
        title = f"{info.name} against the number of frames ahead, one line for each latent space"
        chart = charts.inline(figure, title, inks)
    rows = [(inks[bar.latent], bar) for bar in bars]
    track = Track.around(known, info.higher_is_better) if known else None
    return {"metric": metric, "unit": unit, "rows": rows, "scale": scale, "weight": weight, "track": track,
            "chart": chart}  # fmt: skip


def _pairs(verdict: Verdict, inks: Inks) -> list[dict[str, Any]]:
    """Every two axes against each other, with how far their rankings agree."""
    axes, result = verdict.axes, []
    for x, y in PAIRS:
        if x in axes and y in axes and len(verdict.spaces) > 1:
            figure = Figure(figsize=(5.6, 3.8), layout="constrained")
            charts.tradeoff(figure.subplots(), axes[x], axes[y], inks)
            chart = charts.inline(figure, f"{y} against {x}, with intervals", inks)
            found = verdict.agreements.get(f"{x}, {y}") or verdict.agreements.get(f"{y}, {x}")
            result.append({"chart": chart, "agreement": found})
    return result


def _contrasts(axes: dict[str, AxisVerdict]) -> list[dict[str, Any]]:
    found = [(name, c, axis.noise.origin != "unknown") for name, axis in axes.items() if (c := axis.contrast)]
    if not found:
        return []
    edge = max(abs(v) for _, c, _ in found for v in (c.low, c.high))
    track = Track.around([-edge, edge])
    return [
        {"axis": axis, "difference": c, "known": known, "at": track.at(c.value), "span": track.span(c.low, c.high)}
        for axis, c, known in found
    ]


def _robustness(verdict: Verdict) -> list[dict[str, Any]]:
    """By perturbation, a line for every metric with what each space loses."""
    infos = {metric.info.name: metric.info for metric in verdict.metrics}
    found: dict[str, dict[str, dict[str, Drop]]] = {}
    for drop in verdict.robustness:
        found.setdefault(drop.perturbation, {}).setdefault(drop.metric, {})[drop.latent] = drop
    return [
        {
            "name": perturbation,
            "units": max(drop.units for cells in lines.values() for drop in cells.values()),
            "lines": [
                {
                    "info": infos[name],
                    "cells": cells,
                    "spread": max(abs(d.value.high - d.value.low) for d in cells.values()),
                }
                for name, cells in lines.items()
            ],
        }
        for perturbation, lines in found.items()
    ]


def _costs(record: RunRecord) -> dict[str, Any]:
    """Cost columns that some space has a figure for, with the cheapest of each."""
    costs = {space.name: space.cost for space in record.spaces}
    keys = dict.fromkeys(key for cost in costs.values() for key in cost)
    columns = []
    for key in (*(key for key in COSTS if key in keys), *(key for key in keys if key not in COSTS)):
        known = [cost[key] for cost in costs.values() if key in cost]
        label, kind = COSTS.get(key, (key.replace("_", " "), "plain"))
        columns.append({"key": key, "label": label, "kind": kind, "least": min(known), "most": max(known)})
    return {"columns": columns, "spaces": costs}


def _clips(clips: Clips, order: Sequence[str]) -> dict[str, Any]:
    names = [name for name in order if name in clips.frames]
    frames, height, width = clips.frames[TRUTH].shape[1:4]
    ids = clips.ids[:MAX_CLIPS]
    return {
        "names": names,
        "ids": ids,
        "sheets": [data_uri(clips.sheet(i, names)) for i in range(len(ids))],
        "columns": frames,
        "rows": len(names) + 1,
        "context": clips.context,
        "aspect": width / height,
    }


def data_uri(image: np.ndarray) -> str:
    """(H, W, 3) uint8 as a PNG inside a URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class Track:
    """A horizontal scale on which better is to the right; positions are percentages of its width."""

    worst: float
    best: float

    @classmethod
    def around(cls, values: Iterable[float | None], higher_is_better: bool = True) -> Track:
        """A scale that holds all values, with a margin of 4 %."""
        known = [v for v in values if v is not None]
        low, high = min(known), max(known)
        margin = 0.04 * (high - low or abs(high) or 1.0)
        low, high = low - margin, high + margin
        return cls(low, high) if higher_is_better else cls(high, low)

    @property
    def width(self) -> float:
        return abs(self.best - self.worst)

    def at(self, value: float) -> float:
        return round(100 * (value - self.worst) / (self.best - self.worst), 2)

    def span(self, low: float, high: float) -> tuple[float, float]:
        """Left edge and width of an interval."""
        left, right = sorted((self.at(low), self.at(high)))
        return left, round(right - left, 2)


def number(value: float | None, spread: float) -> str:
    """A value with as many decimals as a hundredth of the spread of its kind needs."""
    if value is None:
        return "–"
    decimals = min(max(2 - math.floor(math.log10(spread)), 0), 5) if spread > 0 else 2
    text = f"{value:,.{decimals}f}".replace("-", "−")
    return text.lstrip("−") if not any(c in "123456789" for c in text) else text


def format_cost(value: float | None, kind: str) -> str:
    """A count as 1.2 M, bytes as 2.0 kB, seconds as 3 min 20 s."""
    if value is None:
        return "–"
    if kind == "seconds":
        if value >= 100:
            return f"{int(value // 60)} min {int(value % 60)} s"
        return f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"
    if kind in ("count", "bytes"):
        unit = "B" if kind == "bytes" else ""
        for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= factor:
                return f"{value / factor:.3g} {prefix}{unit}"
        return f"{value:.3g} {unit}".strip()
    return f"{value:,.4g}"


def prose(text: str) -> Markup:
    """Escaped text in which `backticks` set code."""
    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:  # an odd number of backticks: leave them alone
        return escape(text)
    return Markup("".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts)))
