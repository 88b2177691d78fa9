"""What a study measures, whole: a part for the rollouts, one for all probes, and one for each metric with settings."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from rslwm.evals.base import METRICS
from rslwm.evals.inverse_dynamics import InverseDynamicsConfig
from rslwm.evals.planning import PlanningConfig
from rslwm.evals.prediction import IdentificationConfig, OneStepConfig
from rslwm.evals.probe import ProbeConfig
from rslwm.evals.readout import ReadOutConfig
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.success import SuccessConfig


@dataclass(frozen=True)
class EvalConfig:
    """What is measured on the held-out episodes, and how."""

    rollouts: RolloutsConfig = field(default_factory=RolloutsConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    action_identification: IdentificationConfig = field(default_factory=IdentificationConfig)
    inverse_dynamics: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)
    one_step: OneStepConfig = field(default_factory=OneStepConfig)
    planning: PlanningConfig = field(default_factory=PlanningConfig)
    readout: ReadOutConfig = field(default_factory=ReadOutConfig)
    success: SuccessConfig = field(default_factory=SuccessConfig)
    seed: int = 1234
    """Decides which held-out windows are drawn, the same ones for every space, and all noise of the evaluation."""

    def settings(self, name: str) -> Any:
        """The configuration of a metric: the part of this one that is of its kind, else the metric's own default.

        Raises:
            UnknownName: there is no such metric.
        """
        kind = METRICS.get(name).Config
        return next((part for f in fields(self) if type(part := getattr(self, f.name)) is kind), None) or kind()
