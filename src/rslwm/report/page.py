"""The report: one HTML file that needs nothing else, neither network nor fonts nor the run's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

import rslwm
from rslwm.evals.rows import TRUTH
from rslwm.report import charts, figures, palette, sprites
from rslwm.report.charts import Track, number
from rslwm.report.run import Run, load_run
from rslwm.types import AXES
from rslwm.verdict.axis import MIN_UNITS, OVERALL

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


def build_report(path: Path) -> Path:
    """Write ``report/index.html`` and ``report/figures/`` into a run's folder; returns the page.

    Raises:
        DataError: the run has neither measurements nor a verdict, or one of its files is damaged.
    """
    run = load_run(path)
    out = path / "report"
    out.mkdir(exist_ok=True)
    figures.draw_all(run, out / "figures")
    environment = Environment(
        loader=PackageLoader("rslwm.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(cost=format_cost, number=number, prose=prose)
    page = out / "index.html"
    partial = out / "index.html.partial"
    partial.write_text(environment.get_template("index.html.j2").render(context(run, environment)), encoding="utf-8")
    os.replace(partial, page)
    return page


def context(run: Run, environment: Environment) -> dict[str, Any]:
    """Everything that the template shows."""
    verdict = run.verdict
    inks = palette.inks(verdict["families"])
    legend = [
        {"index": i, "name": name, "family": family, "ink": ink, "mark": _swatch(family)}
        for i, (name, family, ink) in enumerate(zip(run.spaces, verdict["families"], inks, strict=True))
    ]
    order = ranking(verdict)
    spaces = [next(entry for entry in legend if entry["name"] == name) for name in order]
    shown = [axis for axis in (*AXES, OVERALL) if axis in verdict["axes"]]
    return {
        "verdict": verdict,
        "note": run.note,
        "notes": [*run.study.get("notes", []), *verdict["notes"]],
        "legend": legend,
        "spaces": spaces,
        "shown": shown,
        "alone": any(verdict["axes"][axis]["noise"]["origin"] == "unknown" for axis in shown),
        "questions": QUESTIONS,
        "cards": [_card(verdict, axis) for axis in (OVERALL, *AXES) if axis in verdict["axes"]],
        "scores": {axis: _scores(verdict["axes"][axis], _score_track(verdict)) for axis in shown},
        "track": _score_track(verdict),
        "axes": [
            {"name": axis, "question": QUESTIONS[axis], "metrics": _metrics(verdict, axis, legend)} for axis in AXES
        ],
        "pairs": _pairs(verdict),
        "contrasts": _contrasts(verdict, shown),
        "costs": _costs(run),
        "clips": _clips(run, order),
        "config": run.config,
        "study": run.study,
        "version": rslwm.__version__,
        "style": _asset(environment, "style.css"),
        "script": _asset(environment, "report.js"),
    }


def ranking(verdict: dict[str, Any]) -> list[str]:
    """The spaces, best overall first; in the order of the study where there is no overall score."""
    overall = verdict["axes"].get(OVERALL)
    return [standing["latent"] for standing in overall["standings"]] if overall else verdict["spaces"]


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


def _asset(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _swatch(family: str) -> Markup:
    shape = charts.marker(family, 6, 6, 4.6)
    return Markup(f'<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>')


def _card(verdict: dict[str, Any], axis: str) -> dict[str, Any]:
    """A decision for the top of the page."""
    found = verdict["axes"][axis]
    sentence = verdict["decisions"][axis].removeprefix(f"{axis}: ")
    first = found["standings"][0]["latent"]
    for opening in (f"not decidable with {found['units']} held-out episodes. ", f"{first} leads. "):
        sentence = sentence.removeprefix(opening)
    contenders = [verdict["spaces"].index(name) for name in found["contenders"]]
    best = {s["latent"]: s["best"] for s in found["standings"]}
    return {"axis": axis, "winner": found["winner"], "sentence": sentence, "contenders": contenders, "best": best,
            "units": found["units"], "leads": _leads(found), "noise": found["noise"]["origin"]}  # fmt: skip


def _leads(axis: dict[str, Any]) -> bool:
    """Is the first space of an axis ahead, but with one training each and therefore no winner?"""
    return axis["noise"]["origin"] != "measured" and axis["units"] >= MIN_UNITS and len(axis["standings"]) > 1


def _score_track(verdict: dict[str, Any]) -> Track:
    standings = [s for axis in verdict["axes"].values() for s in axis["standings"]]
    return Track.around([0.0, 1.0, *(s["low"] for s in standings), *(s["high"] for s in standings)], True)


def _scores(axis: dict[str, Any], track: Track) -> dict[str, dict[str, Any]]:
    return {
        s["latent"]: {
            **s,
            "rank": rank,
            "wins": s["latent"] == axis["winner"],
            "leads": rank == 1 and _leads(axis),
            "open": not axis["winner"] and s["latent"] in axis["contenders"],
            "out": not axis["winner"] and s["latent"] not in axis["contenders"],
            "at": track.at(s["score"]),
            "span": track.span(s["low"], s["high"]),
        }
        for rank, s in enumerate(axis["standings"], 1)
    }


def _metrics(verdict: dict[str, Any], axis: str, legend: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The axis's metrics, the scored ones first, with their positions on a scale where right is better."""
    found = [_metric(metric, legend) for metric in verdict["metrics"] if metric["info"]["axis"] == axis]
    weight = {part["name"]: part["weight"] for part in verdict["axes"].get(axis, {}).get("parts", [])}
    found = [{**metric, "weight": weight.get(metric["info"]["name"])} for metric in found]
    return sorted(found, key=lambda metric: bool(metric["unscored"]))


def _metric(metric: dict[str, Any], legend: list[dict[str, Any]]) -> dict[str, Any]:
    info = {**metric["info"], "unit_label": "" if metric["info"]["unit"] == "1" else metric["info"]["unit"]}
    metric = {**metric, "info": info}
    bars = [{**bar, **entry} for bar, entry in zip(metric["bars"], legend, strict=True)]
    scale = metric["scale"] or [info["floor_value"], info["ceiling_value"]]
    values = [v for bar in bars for v in (bar["value"], bar["low"], bar["high"], bar["floor"], bar["ceiling"])]
    known = [v for v in (*values, *scale) if v is not None]
    if not known:
        return {**metric, "bars": [], "track": None, "chart": None, "scale": scale, "spread": 1.0}
    track = Track.around(known, info["higher_is_better"])
    families = [entry["family"] for entry in legend]
    several = len(metric["ks"]) > 1 and any(bar["value"] is not None for bar in bars)
    return {
        **metric,
        "bars": bars,
        "track": track,
        "scale": scale,
        "spread": abs(track.best - track.worst),
        "chart": Markup(charts.curves(metric, families)) if several else None,
    }


def _pairs(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """Every two axes against each other, with how far their rankings agree."""
    axes, result = verdict["axes"], []
    for x, y in (("fidelity", "planning"), ("fidelity", "representation"), ("representation", "planning")):
        if x in axes and y in axes and len(verdict["spaces"]) > 1:
            chart = Markup(charts.scatter(axes[x], axes[y], verdict["spaces"], verdict["families"]))
            found = verdict["agreements"].get(f"{x}, {y}") or verdict["agreements"].get(f"{y}, {x}")
            result.append({"x": x, "y": y, "chart": chart, "agreement": found})
    return result


def _contrasts(verdict: dict[str, Any], shown: list[str]) -> list[dict[str, Any]]:
    found = [(axis, c) for axis in shown if (c := verdict["axes"][axis]["contrast"])]
    if not found:
        return []
    edge = max(abs(v) for _, c in found for v in (c["low"], c["high"]))
    track = Track.around([-edge, edge], True)
    known = {axis: verdict["axes"][axis]["noise"]["origin"] != "unknown" for axis, _ in found}
    return [
        {"axis": a, **c, "at": track.at(c["value"]), "span": track.span(c["low"], c["high"]), "known": known[a]}
        for a, c in found
    ]


def _costs(run: Run) -> dict[str, Any]:
    """Cost columns that some space has a figure for, with the cheapest of each."""
    costs = run.costs()
    keys = list(dict.fromkeys(key for cost in costs.values() for key in cost))
    ordered = [key for key in COSTS if key in keys] + [key for key in keys if key not in COSTS]
    columns = []
    for key in ordered:
        known = [cost[key] for cost in costs.values() if cost.get(key) is not None]
        if known:
            label, kind = COSTS.get(key, (key.replace("_", " "), "plain"))
            columns.append({"key": key, "label": label, "kind": kind, "least": min(known), "most": max(known)})
    return {"columns": columns, "spaces": costs}


def _clips(run: Run, order: list[str]) -> dict[str, Any] | None:
    if run.clips is None:
        return None
    names = [name for name in order if name in run.clips.frames]
    frames, height, width = run.clips.frames[TRUTH].shape[1:4]
    count = min(len(run.clips.ids), sprites.MAX_CLIPS)
    return {
        "names": names,
        "ids": run.clips.ids[:count],
        "sheets": [sprites.data_uri(sprites.sheet(run.clips, i, names)) for i in range(count)],
        "columns": frames,
        "rows": len(names) + 1,
        "context": run.clips.context,
        "aspect": width / height,
    }
