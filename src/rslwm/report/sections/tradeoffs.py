"""Do the axes agree?"""

from __future__ import annotations

from typing import Any

from rslwm.report.charts import Chart, Panel, Series
from rslwm.report.formats import Track
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.verdict.axis import AxisVerdict

PAIRS = (("fidelity", "planning"), ("fidelity", "representation"), ("representation", "planning"))


def build(run: Run) -> dict[str, Any]:
    axes, verdict = run.verdict.axes, run.verdict
    panels, agreements = list[Panel](), []
    for x, y in PAIRS:
        if x in axes and y in axes and len(verdict.spaces) > 1:
            panels.append(tradeoff(axes[x], axes[y]))
            found = verdict.agreements.get(f"{x}, {y}") or verdict.agreements.get(f"{y}, {x}")
            agreements.append((x, y, found))
    caption = "A score each way, with intervals; spaces at the top right have both."
    chart = Chart("tradeoff", "Scores against each other", tuple(panels), caption, height=2.9)
    return {"charts": [chart] if panels else [], "agreements": agreements, "contrasts": _contrasts(axes)}


def tradeoff(x: AxisVerdict, y: AxisVerdict) -> Panel:
    across = {standing.latent: standing for standing in x.standings}
    series = [
        Series(up.latent, [there.score], [up.score], [up.low], [up.high], [there.low], [there.high], space=up.latent)
        for up in y.standings
        for there in [across[up.latent]]
    ]
    return Panel(tuple(series), x=f"{x.axis} →", y=f"{y.axis} →")


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


SECTION = Section("Trade-offs", 40, build)
