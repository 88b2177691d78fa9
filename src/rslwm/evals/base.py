"""What a metric declares and how it is found. A metric returns rows, one per unit, never a mean."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from rslwm.registry import Registry
from rslwm.serialisation import ConfigError
from rslwm.types import AXES, Axis, MetricRow

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

    Raises:
        ConfigError: there is no such axis or aggregate.
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

    def __post_init__(self) -> None:
        for name, value, known in (("axis", self.axis, AXES), ("aggregate", self.aggregate, get_args(Aggregate))):
            if value not in known:
                raise ConfigError(f"metric {self.name!r}: {name} {value!r} is not one of {', '.join(known)}")

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
    """Of the rows; raise it when they change."""

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
    """Every declared metric by name, in the order of registration.

    Raises:
        ConfigError: two declare the same name, and their rows couldn't be told apart.
    """
    found: dict[str, MetricInfo] = {}
    for name in METRICS:
        for info in METRICS.get(name).infos:
            if info.name in found:
                raise ConfigError(f"the metric {info.name!r} of {name} is declared by another one, too; rename it")
            found[info.name] = info
    return found
