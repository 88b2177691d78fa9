"""One metric of a space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rslwm.evals.base import METRICS, ROLLOUTS, Metric, MetricInfo, NotAvailable, measure, split
from rslwm.evals.probe import Probe
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.evals.truth import Recording
from rslwm.registry import code_of
from rslwm.run.runner import Outcome, Runner
from rslwm.run.stage import Demand, Stage, Workspace, closure
from rslwm.serialisation import known_by
from rslwm.study.record import Failure
from rslwm.study.stages.base import Sizes, reading
from rslwm.study.stages.held_out import HeldOut, held_out
from rslwm.study.stages.probe import ProbeStage
from rslwm.study.stages.recording import RecordingStage
from rslwm.study.stages.rollouts import RolloutsStage
from rslwm.study.stages.world_model import WorldModelStage
from rslwm.types import Unavailable

if TYPE_CHECKING:
    from rslwm.study.graph import Subject

ROWS = "rows.parquet"


@dataclass(frozen=True, eq=False, kw_only=True)
class MetricStage(HeldOut[Rows]):
    """Measure one metric. What the data can't give isn't a failure: there are no rows then, and the facts say why.
    One that fails takes nothing with it: its rows are missing, and the next run tries it again."""

    kind = "metric"
    seconds = 3.0
    spared = True

    reference: str = field(metadata=known_by(lambda name: name.rpartition("/")[2]))
    """A name of the registry, or path/to/file.py:Class."""
    settings: Any
    source: str
    """Of its code, and of what else of the user's own it calls."""
    names: tuple[str, ...]
    """Of what it needs, in the order of ``given``."""
    given: tuple[Stage, ...]

    @classmethod
    def of_metric(cls, reference: str, subject: Subject) -> MetricStage:
        """The stage of this metric, ``NAME[FIELD=VALUE,...]``, for a subject."""
        name, metric = split(reference)[0], subject.study.metrics[reference]
        needs = {name: _stage(need, subject) for name, need in metric.needs.items()}
        return cls(
            **held_out(subject),
            label=f"{subject.sized} {name}",
            reference=name,
            settings=metric.config,
            source=f"{metric.version}{code_of(type(metric))}{metric.code()}",
            names=tuple(needs),
            given=tuple(needs.values()),
        )

    @property
    def metric(self) -> Metric:
        return METRICS.get(self.reference)(self.settings)

    def demand(self, sizes: Sizes) -> Demand:
        assert isinstance(self.world_model, WorldModelStage)
        rollouts = next((s.settings for s in self.given if isinstance(s, RolloutsStage)), RolloutsConfig())
        load = self.metric.load(self.world_model.settings.dit.max_frames - 1, rollouts)
        return reading(self, load.read, self.predicting(load.passes, load.decoded, load.memory))

    def run(self, work: Workspace) -> None:
        evaluation = self.evaluation(work)
        try:
            needs = {name: work.open(stage) for name, stage in zip(self.names, self.given, strict=True)}
            rows, reason = measure(self.metric, evaluation, needs), ""
        except NotAvailable as why:
            rows, reason = Rows.concatenate([]), str(why)
        rows.save(work.out / ROWS)
        missing = [i.name for i in self.metric.infos if reason or (i.scored and i.source not in rows["metric"])]
        reason = reason or "its metric returned no rows"
        unavailable = [{"metric": name, "reason": reason} for name in missing]
        work.write_facts(unavailable=unavailable, costs=evaluation.costs)

    def open(self, work: Workspace) -> Rows:
        return Rows.load(work.out / ROWS)


def _stage(need: Any, subject: Subject) -> Stage:
    """The stage that makes what a metric needs."""
    if need is ROLLOUTS:
        return subject.pull(RolloutsStage)
    if isinstance(need, Recording):
        return RecordingStage.of_recording(need, subject)
    return ProbeStage.of_probe(need, subject) if isinstance(need, Probe) else subject.pull(need)


@dataclass(frozen=True)
class Measured:
    """What the metrics of some spaces gave: rows; which the data can't give, and why; which failed."""

    rows: Rows
    unavailable: list[Unavailable]
    failed: list[Failure]
    infos: dict[str, MetricInfo]
    """What was to be measured, by name."""

    @classmethod
    def of(cls, stages: Iterable[MetricStage], runner: Runner, outcome: Outcome) -> Measured:
        """Put together from a run's outcome."""
        tables, unavailable, failed = list[Rows](), dict[str, Unavailable](), list[Failure]()
        stages = [*stages]
        for stage in stages:
            if stage in outcome.folders:
                tables.append(runner.workspace.open(stage))
                missing = runner.workspace.facts(stage)["unavailable"]
                unavailable |= {why["metric"]: Unavailable(**why) for why in missing}
                continue
            cause = stage if stage in outcome.failed else next(s for s in closure([stage]) if s in outcome.failed)
            why = (
                outcome.failed[cause].why if cause is stage else f"{cause}, which it needs: {outcome.failed[cause].why}"
            )
            names = [info.name for info in stage.metric.infos]
            failed += [Failure(name, str(stage.label), why, str(runner.log(cause))) for name in names]
        infos = {info.name: info for stage in stages for info in stage.metric.infos}
        return cls(Rows.concatenate(tables), [*unavailable.values()], failed, infos)
