"""Where things are, and what touches: read out of latents near contact and far from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rslwm.evals.geometry import KEPT
from rslwm.report.charts import Chart
from rslwm.report.curves import AHEAD, by_dim, curve, spanning, strands
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.verdict.scale import Summary

WHERE = {"near": "near contact", "far": "far from contact"}
FOLLOWED = ("gripper", "object")
READ = ("gripper_error_generated", "object_error_generated", "contact_precision_generated")


def build(run: Run) -> dict[str, Any] | None:
    known = run.measured([KEPT.name, *READ])
    charts = [*_kept(known[KEPT.name])] if KEPT.name in known else []
    if shown := [name for name in READ if name in known]:
        caption = "Read out of generated latents. Arrows point to better; dotted is the floor, dashed the ceiling."
        panels = tuple(curve(known[name]) for name in shown)
        charts.append(Chart("positions", "Positions and contacts in generated futures", panels, caption,
                            metrics=tuple(shown)))  # fmt: skip
    return {"charts": charts} if charts else None


def _kept(metric: Summary) -> Iterator[Chart]:
    """At the last frame for everything that is read out, over frames for the most important."""
    parts = [*dict.fromkeys(dim.split()[-1] for dim in metric.cells)]
    matrices = []
    for where, title in WHERE.items():
        dims = {dim: part for part in parts if (dim := f"{where} {part}") in metric.cells}
        if dims:
            matrices.append(by_dim(metric, title, "what is read", dims))
    caption = (
        f"The error that encoder latents allow over that of generated ones, {metric.ks[-1]} frames ahead: 1 is all "
        "that the encoder knows. Near is within a few steps of a contact."
    )
    if matrices:
        yield Chart("geometry", "What is kept near contact", tuple(matrices), caption, 2, (KEPT.name,))
    panels = []
    for part in FOLLOWED:
        dims = {f"{where} {part}": f"{part}, {title}" for where, title in WHERE.items()}
        if all(dim in metric.cells for dim in dims):
            span = spanning(metric, dims)
            panels += [strands(metric, dim, AHEAD, title, span) for dim, title in dims.items()]
    if panels:
        caption = "The same by frames ahead; 1 is all that the encoder knows, bands are intervals."
        yield Chart("geometry_by_k", "As frames go by", tuple(panels), caption, 2, (KEPT.name,), height=2.3)


SECTION = Section("Geometry", 34, build)
