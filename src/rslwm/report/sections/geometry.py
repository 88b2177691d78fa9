"""Where things are, and what touches: read out of latents near contact and far from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rslwm.evals.geometry import KEPT
from rslwm.report.charts import Chart
from rslwm.report.curves import AHEAD, curve, strands
from rslwm.report.run import Run
from rslwm.report.sections import Section

STYLES = {"near": "-", "far": "--"}
READ = ("gripper_error_generated", "object_error_generated", "contact_precision_generated")


def build(run: Run) -> dict[str, Any] | None:
    known = run.measured([KEPT.name, *READ])
    charts = []
    if kept := known.get(KEPT.name):
        parts = dict.fromkeys(dim.split()[-1] for dim in kept.cells)
        panels = tuple(replace(strands(kept, STYLES, AHEAD, part, part), y="1 is all of it") for part in parts)
        caption = (
            "The error that encoder latents allow over that of generated ones, by frames ahead: 1 is all that the "
            "encoder knows. Solid: within a few steps of a contact; dashed: far from any."
        )
        charts.append(Chart("geometry", "What is kept near contact", panels, caption, metrics=(KEPT.name,)))
    if shown := [name for name in READ if name in known]:
        caption = "Read out of generated latents; dotted is the floor, dashed the ceiling, bands are intervals."
        panels = tuple(curve(known[name]) for name in shown)
        charts.append(Chart("positions", "Positions and contacts in generated futures", panels, caption,
                            metrics=tuple(shown)))  # fmt: skip
    return {"charts": charts} if charts else None


SECTION = Section("Geometry", 34, build)
