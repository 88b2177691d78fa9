"""Does planning with it reach goals? Success over how far the goal is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rslwm.report.charts import Chart, Panel, Series
from rslwm.report.curves import curve
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.verdict.scale import Summary

FAR = "distance of the goal, in actions"
TITLES = {"goal_success": "planned with CEM", "goal_success_inverse": "inverse dynamics alone"}


def build(run: Run) -> dict[str, Any] | None:
    known = run.measured([*TITLES, "goal_distance", "goal_success_blind", "exploitability", "improvement"])
    reached = [name for name in TITLES if name in known]
    if not reached:
        return None
    panels = [replace(curve(known[name], TITLES[name], FAR), y="of goals ↑") for name in reached]
    if "goal_distance" in known:
        panels.append(curve(known["goal_distance"], "what is left of the way", FAR))
    charts = [
        Chart(
            "closed_loop", "Goals reached by acting in the true world", tuple(panels),
            "Dotted is the best of three actors that see nothing, dashed an oracle that plans in the simulator; bands "
            "are intervals over episodes.",
            metrics=tuple([*reached, "goal_distance"]),
        )
    ]  # fmt: skip
    more = [_exploited(known["exploitability"])] if "exploitability" in known else []
    if "improvement" in known:
        more.append(_improved(known["improvement"]))
    if more:
        charts.append(
            Chart(
                "planning_more", "Does searching more, or thinking ahead, help?", tuple(more),
                "Left: how much of the way that a plan promises isn't gained in truth, by how many plans were "
                "searched; 0 keeps its promise. Right: success of policies that think ahead in the model minus their "
                "success without; right of the line it helps.",
                across=2, metrics=("exploitability", "improvement"),
            )
        )  # fmt: skip
    return {"charts": charts}


def _exploited(metric: Summary) -> Panel:
    return replace(curve(metric, "promised but not gained", "plans searched"), log=True)


def _improved(metric: Summary) -> Panel:
    names = tuple(bar.latent for bar in metric.bars)
    series = [
        Series(bar.latent, [bar.value], [place], left=[bar.low], right=[bar.high], space=bar.latent)
        for place, bar in enumerate(metric.bars)
        if bar.value is not None
    ]
    return Panel(tuple(series), "thinking ahead", "change of success", names=names, zero=True)


SECTION = Section("Closed loop", 32, build)
