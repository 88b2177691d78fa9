"""Does it know how sure it can be? Generated futures against many true ones, where the world has some of either."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rslwm.report.charts import Chart
from rslwm.report.curves import curve
from rslwm.report.run import Run
from rslwm.report.sections import Section

SPREAD = ("spread_error", "coverage_50", "coverage_90")
SCORES = ("crps_gripper", "crps_object", "energy_gripper")


def build(run: Run) -> dict[str, Any] | None:
    known = run.measured([*SPREAD, *SCORES])
    charts = []
    if shown := [name for name in SPREAD if name in known]:
        caption = (
            "Dashed is what a model that knows how sure it can be has; below it is overconfident, above it timid. "
            "Bands are intervals over episodes."
        )
        panels = tuple(replace(curve(known[name]), y="dashed is right") for name in shown)
        charts.append(Chart("calibration", "Spread of generated futures", panels, caption, metrics=tuple(shown)))
    if shown := [name for name in SCORES if name in known]:
        caption = (
            "Error of whole ensembles (fair scores). Dotted holds the last frame still, dashed are other true futures "
            "of the same state and actions."
        )
        panels = tuple(curve(known[name]) for name in shown)
        charts.append(Chart("ensembles", "How far futures are from true ones", panels, caption, metrics=tuple(shown)))
    return {"charts": charts} if charts else None


SECTION = Section("Calibration", 33, build)
