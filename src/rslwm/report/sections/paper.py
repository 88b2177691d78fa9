"""The run's numbers beside the paper's."""

from __future__ import annotations

from typing import Any

from rslwm.report.run import Run
from rslwm.report.sections import Section


def build(run: Run) -> dict[str, Any] | None:
    return {"beside": run.beside} if run.beside else None


SECTION = Section("The paper", 60, build)
