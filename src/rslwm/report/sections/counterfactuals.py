"""Does the imagined future follow the action? Branches of one state under different actions."""

from __future__ import annotations

from typing import Any

from rslwm.evals.counterfactuals import Counterfactuals
from rslwm.report.charts import Chart, Matrix
from rslwm.report.curves import BOUNDED, by_dim, by_k, sheet
from rslwm.report.run import Run
from rslwm.report.sections import Section

OVER_K = ("branch_matching", "branch_identification", "effect_error_gripper", "effect_error_objects")


def build(run: Run) -> dict[str, Any] | None:
    known = run.measured([info.name for info in Counterfactuals.infos])
    if "branch_matching" not in known:
        return None
    panels: list[Matrix] = [by_k(known["branch_matching"], "pairs of branches told apart")]
    if "near_miss_matching" in known:
        panels.append(by_dim(known["near_miss_matching"], "told apart though nearly the same", "difference of actions"))
    if "branch_identification" in known:
        panels.append(by_k(known["branch_identification"], "own branch found"))
    matrix = Chart(
        "branches", "Branches of one state under different actions", tuple(panels),
        "Share of cases in which the imagined future of an action is nearest to what that action truly led to; the "
        "fuller a cell, the better. In the middle, actions that differ by that part of their bounds only.",
        metrics=("branch_matching", "near_miss_matching", "branch_identification"),
    )  # fmt: skip
    errors = [known[name] for name in ("effect_error_gripper", "effect_error_objects", "effect_error") if name in known]
    charts = [matrix]
    if errors:
        charts.append(
            sheet("effects", "How far the imagined effect of an action is from the true one", errors, BOUNDED)
        )
    return {"charts": charts}


SECTION = Section("Counterfactuals", 31, build)
