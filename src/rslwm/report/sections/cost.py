"""What a space costs, and what one gets for it."""

from __future__ import annotations

from typing import Any

from rslwm.report.charts import Chart, Panel, Series
from rslwm.report.formats import format_cost
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.verdict.axis import OVERALL

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
TRAINING = ("encoder_training_flops", "world_model_training_flops")
AGAINST = {
    "training FLOPs": "count", "latent bytes a frame": "bytes", "rollout time a frame": "seconds",
}  # fmt: skip
LABELS = {"rollout time a frame": "ms"}
"""Of an axis, where it isn't the name."""
ALIKE = 1.01
"""Costs whose largest is less than so many times the smallest are the same for all."""


def build(run: Run) -> dict[str, Any]:
    record = run.record
    costs = {space.name: space.cost for space in record.spaces}
    keys = dict.fromkeys(key for cost in costs.values() for key in cost)
    columns = []
    for key in (*(key for key in COSTS if key in keys), *(key for key in keys if key not in COSTS)):
        known = [cost[key] for cost in costs.values() if key in cost]
        label, kind = COSTS.get(key, (key.replace("_", " "), "plain"))
        columns.append({"key": key, "label": label, "kind": kind, "least": min(known), "most": max(known)})
    chart, same = pareto(run, costs)
    return {"columns": columns, "costs": costs, "charts": [chart] if chart else [], "same": same}


def pareto(run: Run, costs: dict[str, dict[str, float]]) -> tuple[Chart | None, list[str]]:
    """Score over every cost in which spaces differ, and sentences on those in which they don't."""
    axes = run.verdict.axes
    axis = axes.get(OVERALL) or next(iter(axes.values()), None)
    panels, same = list[Panel](), list[str]()
    if axis is None:
        return None, same
    for name, kind in AGAINST.items():
        spent = {s.latent: cost for s in axis.standings if (cost := _spent(name, costs.get(s.latent, {}))) is not None}
        if not spent:
            continue
        low, high = min(spent.values()), max(spent.values())
        if high < ALIKE * low:
            same.append(f"{name}: {format_cost(low, kind)}, the same for all.")
            continue
        scale = 1000.0 if kind == "seconds" else 1.0
        series = [
            Series(s.latent, [scale * spent[s.latent]], [s.score], [s.low], [s.high], space=s.latent)
            for s in axis.standings
            if s.latent in spent
        ]
        edge = _edge([(scale * spent[s.latent], s.score) for s in axis.standings if s.latent in spent])
        frontier = Series("frontier", [cost for cost, _ in edge], [score for _, score in edge], line=":", marked=False)
        panels.append(
            Panel(
                (frontier, *series), f"over {name}", LABELS.get(name, name), f"{axis.axis} score ↑", log=high > 20 * low
            )
        )
    caption = (
        f"The {axis.axis} score over what it costs. Up and to the left is better: no space on the dotted line is "
        "beaten on score and cost together. Bars are intervals."
    )
    title = f"{axis.axis.capitalize()} score over cost"
    return (Chart("pareto", title, tuple(panels), caption) if panels else None), same


def _spent(name: str, cost: dict[str, float]) -> float | None:
    if name == "training FLOPs":
        known = [cost[key] for key in TRAINING if key in cost]
        return sum(known) if known and any(known) else None
    return cost.get({"latent bytes a frame": "latent_bytes_per_frame"}.get(name, "rollout_seconds"))


def _edge(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, score) those that nothing cheaper equals."""
    edge: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not edge or score > edge[-1][1]:
            edge.append((cost, score))
    return edge


SECTION = Section("Cost", 10, build)
