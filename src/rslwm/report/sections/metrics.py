"""Every metric, in its own unit."""

from __future__ import annotations

from typing import Any

from rslwm.report.charts import Chart
from rslwm.report.curves import BOUNDED, curve
from rslwm.report.formats import Track
from rslwm.report.palette import Ink
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.types import AXES
from rslwm.verdict.decide import Verdict
from rslwm.verdict.scale import Summary


def build(run: Run) -> dict[str, Any]:
    known = [m for m in run.verdict.metrics if any(bar.value is not None for bar in m.bars)]
    return {
        "axes": [(axis, _questions(run.verdict, axis, run.inks)) for axis in AXES],
        "table": [
            {"metric": metric, "track": _panel(metric, None, run.inks)["track"],
             "bars": {bar.latent: bar for bar in metric.bars}}
            for metric in known
        ],
    }  # fmt: skip


def _questions(verdict: Verdict, axis: str, inks: dict[str, Ink]) -> list[tuple[str, list[dict[str, Any]]]]:
    """What an axis asks, with its metrics, the scored ones first."""
    weights = {part.name: part.weight for part in verdict.axes[axis].parts} if axis in verdict.axes else {}
    found = sorted((m for m in verdict.metrics if m.info.axis == axis), key=lambda metric: bool(metric.unscored))
    asked: dict[str, list[dict[str, Any]]] = {}
    for metric in found:
        asked.setdefault(metric.info.question, []).append(_panel(metric, weights.get(metric.info.name), inks))
    return [*asked.items()]


def _panel(metric: Summary, weight: float | None, inks: dict[str, Ink]) -> dict[str, Any]:
    """A metric, and a track for its values where right is better; without any number there is none."""
    info, bars = metric.info, metric.bars
    scale = metric.scale or (info.floor_value, info.ceiling_value)
    values = [v for bar in bars for v in (bar.value, bar.low, bar.high, bar.floor, bar.ceiling)]
    known = [v for v in (*values, *scale) if v is not None]
    chart = None
    if len(metric.ks) > 1 and any(bar.value is not None for bar in bars):
        chart = Chart(f"{info.name}_by_k", f"{info.name} by frames ahead", (curve(metric, " "),), BOUNDED,
                      metrics=(info.name,))  # fmt: skip
    return {
        "metric": metric,
        "unit": "" if info.unit == "1" else info.unit,
        "rows": [(inks[bar.latent], bar) for bar in bars],
        "scale": scale,
        "weight": weight,
        "track": Track.around(known, info.higher_is_better) if known else None,
        "chart": chart,
    }


SECTION = Section("All metrics", 50, build)
