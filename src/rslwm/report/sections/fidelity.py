"""Do decoded rollouts look like what really happened?"""

from __future__ import annotations

from typing import Any

from rslwm.report.curves import sheet
from rslwm.report.run import Run
from rslwm.report.sections import Section

MOST = 6


def build(run: Run) -> dict[str, Any] | None:
    scored = [m for m in run.verdict.metrics if m.info.axis == "fidelity" and m.info.scored and len(m.ks) > 1]
    known = run.measured([metric.info.name for metric in scored])
    if not known:
        return None
    return {"charts": [sheet("fidelity", "Decoded rollouts against the truth", [*known.values()][:MOST])]}


SECTION = Section("Fidelity", 37, build)
