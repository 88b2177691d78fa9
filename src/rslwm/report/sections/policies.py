"""Does success inside the world model tell true success?"""

from __future__ import annotations

from typing import Any

import numpy as np

from rslwm.evals.policies import WITHIN
from rslwm.evals.rates import Rate
from rslwm.evals.rows import Rows
from rslwm.report.charts import Chart, Panel, Series
from rslwm.report.formats import lossy_uri
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.verdict.policies import PolicyReport

WORST = 12
"""Pairs of a policy and a task that are listed for how far apart both rates are."""


def build(run: Run) -> dict[str, Any] | None:
    inks = run.inks
    found = {name: report for name, report in run.verdict.policies.items() if name in inks}  # others are sanity rows'
    if not found:
        return None
    trials = run.rows(WITHIN.name)
    panels = tuple(scatter(name, report, trials) for name, report in found.items())
    caption = (
        "Every policy acts from the same beginnings in the true world and inside the world model of every space. Large "
        "marks are policies over all tasks, with Wilson intervals of their trials; small ones are policies in a task. "
        "On the dotted line success is as frequent in both."
    )
    return {
        "charts": [Chart("policies", "Success inside the world model against true success", panels, caption, height=3.3,
                         metrics=("policy_r",))],
        "reports": [{"ink": inks[name], "report": report, "r": _line(report)} for name, report in found.items()],
        "apart": disagreements(found)[:WORST],
        "films": [
            {"ink": inks[name], "caption": film.caption, "columns": len(film.frames),
             "aspect": film.frames.shape[2] / film.frames.shape[1],
             "sheet": lossy_uri(np.concatenate([*film.frames.numpy()], axis=1))}
            for name in found for film in run.films.get(name, [])
        ],
    }  # fmt: skip


def scatter(name: str, report: PolicyReport, trials: Rows | None) -> Panel:
    """A space's policies, over all tasks and in each of them."""
    cells = [
        (true, seen, f"{policy}, {task}")
        for policy, *sides in zip(report.policies, report.true, report.imagined, strict=True)
        for task, true, seen in zip(report.tasks, *sides, strict=True)
        if true is not None and seen is not None
    ]
    x, y, points = zip(*cells, strict=True) if cells else ((), (), ())
    tasks = Series(f"{name}, in a task", x, y, space=name, small=True, points=points)
    true, seen = (
        [float(np.nanmean(np.array(rates, float))) for rates in side] for side in (report.true, report.imagined)
    )
    low, high, left, right = _wilson(name, report, trials)
    policies = Series(name, true, seen, low, high, left, right, space=name, points=report.policies)
    return Panel((tasks, policies), name, "true success", "success in the model", square=True)


def _wilson(name: str, report: PolicyReport, trials: Rows | None) -> list[list[float]]:
    """Ends of the intervals of imagined and true rates of every policy over its trials; none without the run's rows."""
    if trials is None:
        return [[], [], [], []]
    low, high, left, right = sides = [list[float]() for _ in range(4)]
    for policy in report.policies:
        own = trials.where((trials["latent"] == name) & (trials["unit"] == policy) & (trials["role"] == "value"))
        for least, most, column in ((left, right, "target"), (low, high, "value")):
            estimate = Rate.of(own[column][np.isfinite(own[column])] > 0.5).estimate()
            least.append(estimate.low)
            most.append(estimate.high)
    return sides


def disagreements(found: dict[str, PolicyReport]) -> list[dict[str, Any]]:
    """Policies in tasks by how far success in the model is from the truth, the farthest first."""
    cells = [
        {"space": name, "policy": policy, "task": task, "true": true, "seen": seen, "gap": seen - true}
        for name, report in found.items()
        for policy, *sides in zip(report.policies, report.true, report.imagined, strict=True)
        for task, true, seen in zip(report.tasks, *sides, strict=True)
        if true is not None and seen is not None
    ]
    return sorted(cells, key=lambda cell: -abs(cell["gap"]))


def _line(report: PolicyReport) -> Any:
    return report.statistics[0] if report.statistics else None


SECTION = Section("Policies", 30, build)
