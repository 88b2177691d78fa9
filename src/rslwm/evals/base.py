"""What a metric declares and how it is found. A metric returns rows, one per unit, never a mean."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rslwm.registry import Registry
from rslwm.types import Axis, MetricRow

if TYPE_CHECKING:
    from rslwm.evals.evaluation import Evaluation

Aggregate = Literal["mean", "ratio", "pearson", "r2", "balanced_accuracy", "auc"]


@dataclass(frozen=True)
class MetricInfo:
    """A metric as data: direction, unit, and how its rows become one number.

    ``aggregate`` says how rows are condensed, per (k, dim), before these are averaged: ``mean`` of value; ``ratio`` of
    the sums of value and target (an error relative to a baseline's on the same windows); ``pearson``, ``r2``,
    ``balanced_accuracy`` (threshold 0.5) and ``auc`` compare value with target. ``floor`` and ``ceiling`` say in words
    what knows nothing and what loses nothing; where they are known without measuring, ``floor_value`` and
    ``ceiling_value`` hold them, and rows of that role don't count. ``rows_of`` names the metric whose rows this one is
    another aggregate of: the same predictions are stored once.
    """

    name: str
    axis: Axis
    higher_is_better: bool
    unit: str
    aggregate: Aggregate
    floor: str
    ceiling: str
    description: str
    scored: bool = True
    floor_value: float | None = None
    ceiling_value: float | None = None
    rows_of: str = ""

    @property
    def source(self) -> str:
        """The name that this metric's rows are stored under."""
        return self.rows_of or self.name


class NotAvailable(Exception):
    """The data lack what a metric needs; the message says what. Reported as such, never as zero."""


class Metric:
    """A family of metrics that are measured together.

    A new one is a subclass in a file of its own, registered in :data:`METRICS`: it declares ``infos`` and yields rows
    through :meth:`Evaluation.row`.
    """

    infos: ClassVar[tuple[MetricInfo, ...]]
    version: ClassVar[int] = 1
    """Of the rows; raise it when they change, see :mod:`rslwm.study.versions`."""

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        """Rows of all ``infos``.

        Raises:
            NotAvailable: the data lack what these metrics need.
        """
        raise NotImplementedError


def _load_builtin() -> None:
    for module in (
        "visual",
        "identification",
        "planning",
        "one_step",
        "rollout_error",
        "inverse_dynamics",
        "readout",
        "success",
    ):
        importlib.import_module(f"rslwm.evals.{module}")


METRICS: Registry[type[Metric]] = Registry("metric", "rslwm.metrics", _load_builtin)


def metric_infos() -> dict[str, MetricInfo]:
    """Every declared metric by name, in the order of registration."""
    return {info.name: info for name in METRICS for info in METRICS.get(name).infos}
