"""The command that measures a metric again."""

from __future__ import annotations

import shlex

from rslwm.evals.base import METRICS
from rslwm.study.config import StudyConfig


def measuring(config: StudyConfig) -> dict[str, str]:
    """By metric, what measures it under this configuration, in the run's folder; nothing of metrics of a file."""
    found: dict[str, str] = {}
    given = {reference.partition("[")[0]: reference for reference in config.metrics}
    for name in METRICS:
        command = f"rslwm compare config.yaml --metrics {shlex.quote(given.get(name, name))} --out again"
        found |= {info.name: command for info in METRICS.get(name).infos}
    return found
