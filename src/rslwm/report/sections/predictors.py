"""Which cheap metric tells sooner what is dear to measure."""

from __future__ import annotations

from typing import Any

from rslwm.report.run import Run
from rslwm.report.sections import Section

MOST = 8
"""Metrics that are listed for what they predict."""


def build(run: Run) -> dict[str, Any] | None:
    found = run.verdict.predictors
    targets = dict.fromkeys(one.target for one in found)
    return {"predictors": {name: [p for p in found if p.target == name][:MOST] for name in targets}} if found else None


SECTION = Section("Predictors", 41, build)
