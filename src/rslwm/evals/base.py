"""What a metric declares and how it is found. A metric returns rows, one per unit, never a mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

from rslwm import registry
from rslwm.evals.aggregates import AGGREGATES, Aggregate
from rslwm.evals.rows import Rows
from rslwm.registry import Registry, import_below
from rslwm.serialisation import ConfigError, named_by, with_options
from rslwm.types import AXES, Axis, DataError

if TYPE_CHECKING:
    from rslwm.evals.evaluation import Evaluation
    from rslwm.evals.probe import Probe
    from rslwm.evals.rollouts import RolloutsConfig
    from rslwm.evals.truth import Recording
    from rslwm.run.stage import Stage


EPISODES: Final = "episodes"


@dataclass(frozen=True)
class MetricInfo:
    """A metric as data: direction, unit, and how its rows become one number.

    ``aggregate`` condenses rows, per (k, dim), before these are averaged. ``floor`` and ``ceiling`` say in words
    what knows nothing and what loses nothing; where they are known without measuring, ``floor_value`` and
    ``ceiling_value`` hold them, and rows of that role don't count. ``rows_of`` names the metric whose rows this one is
    another aggregate of: the same predictions are stored once. ``question`` is what its axis asks with it: an axis is
    an average over questions, however many metrics ask one. ``rung`` is that of the ladder of arXiv 2606.15032: 0 to 3
    look and read out, 4 intervenes, 5 to 7 decide with the model. ``counts`` says what the units of its rows are, which
    the bootstrap draws.

    Raises:
        ConfigError: there is no such axis, or the aggregate is none.
    """

    name: str
    axis: Axis
    higher_is_better: bool
    unit: str
    aggregate: Aggregate = field(metadata=named_by(lambda aggregate: aggregate.name, AGGREGATES.get))
    floor: str
    ceiling: str
    description: str
    scored: bool = True
    floor_value: float | None = None
    ceiling_value: float | None = None
    rows_of: str = ""
    question: str = ""
    rung: int | None = None
    counts: str = EPISODES

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ConfigError(f"metric {self.name!r}: axis {self.axis!r} is not one of {', '.join(AXES)}")
        if not isinstance(self.aggregate, Aggregate):
            raise ConfigError(f"metric {self.name!r}: {self.aggregate!r} is no Aggregate")
        if self.rung is not None and self.rung not in range(8):
            raise ConfigError(f"metric {self.name!r}: rung {self.rung} is not one of 0 to 7")

    @property
    def source(self) -> str:
        """The name that this metric's rows are stored under."""
        return self.rows_of or self.name


class NotAvailable(Exception):
    """The data lack what a metric needs; the message says what. Reported as such, never as zero."""


ROLLOUTS: Final = "rollouts"
Need: TypeAlias = "Literal['rollouts'] | Probe | Recording[Any] | type[Stage]"
"""What is made before a metric is measured: the space's rollouts, which arrive as a
:class:`rslwm.evals.rollouts.Rollouts`; a probe, which arrives as a :class:`rslwm.evals.probe.TrainedProbe`; a
:class:`rslwm.evals.truth.Recording` or a stage of one's own, which arrive opened."""


@dataclass(frozen=True)
class Load:
    """What measuring takes, for estimates: frames through the transformer, frames decoded, latents read, and bytes
    beside the weights."""

    passes: float = 0.0
    decoded: float = 0.0
    read: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class NoConfig:
    """Of a metric without settings."""


class Metric:
    """A family of metrics that are measured together.

    A new one is a subclass, registered in :data:`METRICS` or named as path/to/file.py:Class: it declares ``infos`` and
    yields rows, see :meth:`Evaluation.rows`.
    """

    infos: ClassVar[tuple[MetricInfo, ...]]
    core: ClassVar[bool] = True
    """Whether a study measures it unless it is told what to measure."""
    version: ClassVar[int] = 1
    """Of the rows; raise it when they change, see :mod:`rslwm.study.versions`."""
    Config: ClassVar[type] = NoConfig
    """A frozen dataclass of settings, each with a default."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def needs(self) -> Mapping[str, Need]:
        """What :meth:`measure` gets beside the evaluation, by the names of its arguments; where nothing else is said,
        the rollouts if it has an argument of that name."""
        return {ROLLOUTS: ROLLOUTS} if ROLLOUTS in inspect.signature(self.measure).parameters else {}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        """What measuring takes of a world model that sees ``history`` frames beside the one that it predicts."""
        return Load()

    def code(self) -> str:
        """Changes with other code of the user's own that the settings name, such as a planner's."""
        return ""

    def measure(self, evaluation: Evaluation, *args: Any, **kwargs: Any) -> Iterator[Rows]:
        """Rows of ``infos``; an override names its ``needs`` in place of ``args`` and ``kwargs``.

        Raises:
            NotAvailable: the data lack what these metrics need.
        """
        raise NotImplementedError


METRICS: Registry[type[Metric]] = Registry("metric", "rslwm.metrics", partial(import_below, "rslwm.evals"))


def measure(metric: Metric, evaluation: Evaluation, needs: Mapping[str, Any]) -> Rows:
    """All rows of a metric, given what it needs.

    Raises:
        NotAvailable: the data lack what it needs.
        DataError: it returned rows that it doesn't declare, of which no verdict could be made.
    """
    rows = Rows.concatenate([*metric.measure(evaluation, **needs)])
    declared = sorted({info.source for info in metric.infos})
    if unknown := sorted(set(rows.distinct("metric")) - {*declared}):
        where = f"{type(metric).__name__} returned rows of {unknown[0]!r}"
        raise DataError(f"{where}, which isn't among its infos: {', '.join(declared)}")
    return rows


def split(reference: str, where: str = "metrics") -> tuple[str, dict[str, Any]]:
    """The name of a metric and its options, see :func:`rslwm.registry.split`."""
    return registry.split(reference, where, "visual, planning[windows=48] or moving.py:Moving")


def named(reference: str, settings: Callable[[str], Any] = lambda name: METRICS.get(name).Config()) -> Metric:
    """The metric of a reference, see :func:`split`; its options replace fields of what ``settings`` says of its name.

    A dot leads to a field of a field: ``planning[plan.horizon=4]``.

    Raises:
        UnknownName: nothing answers to the name.
        ConfigError: what answers is no metric, or an option is no field of its settings or of another type.
    """
    name, options = split(reference)
    metric = METRICS.get(name)
    if not (isinstance(metric, type) and issubclass(metric, Metric)):
        raise ConfigError(f"metrics: {name} is {metric!r}, which is no subclass of rslwm.evals.base.Metric")
    config = settings(name)
    return metric(with_options(config, options, "metrics", reference) if options else config)
