"""What is measured of a space and its world model: rollouts, probes, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from rslwm.compute import redrawn
from rslwm.evals import films
from rslwm.evals.base import METRICS, ROLLOUTS, Metric, MetricInfo, NotAvailable, measure, split
from rslwm.evals.evaluation import Evaluation, Label
from rslwm.evals.probe import Probe, ProbeConfig, Reader, TrainedProbe, train_probe
from rslwm.evals.rollouts import Rollouts, RolloutsConfig, generating, keep_clips, make_rollouts
from rslwm.evals.rows import Rows
from rslwm.evals.truth import Recording
from rslwm.flops import Pass, blank, count
from rslwm.model.world_model import WorldModel
from rslwm.registry import code_of
from rslwm.run.runner import Outcome, Runner
from rslwm.run.stage import Demand, Stage, Workspace, closure
from rslwm.serialisation import known_by
from rslwm.study.record import Failure
from rslwm.study.stages.base import OnEpisodes, Sizes, on_episodes, training
from rslwm.study.stages.latents import LatentsStage
from rslwm.study.stages.recording import RecordingStage
from rslwm.study.stages.world_model import WorldModelStage, denoising
from rslwm.types import ActionSpec, Unavailable

if TYPE_CHECKING:
    from rslwm.study.stages.world_model import CheckpointStage
    from rslwm.study.subjects import Subject

T = TypeVar("T")

ROWS, CLIPS = "rows.parquet", "clips.safetensors"
KEPT = 8
"""Decoded rollouts for the report."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOut(OnEpisodes[T]):
    """A stage that looks at held-out episodes through a world model."""

    latents: LatentsStage
    world_model: WorldModelStage | CheckpointStage
    row: Label
    """The columns by which its rows are told from another space's."""
    seed: int
    """Of the choice of windows and of all noise, the same for every space."""
    left_out: tuple[str, ...]
    """Ids of episodes that a model from elsewhere was trained on."""

    def evaluation(self, work: Workspace) -> Evaluation:
        """The space under test."""
        model: WorldModel = work.open(self.world_model)
        corpus = self.corpus(work).for_model(model.action_spec)
        left_out = frozenset(i for i, name in enumerate(corpus.dataset.ids) if name in self.left_out)
        corpus = replace(corpus, left_out=left_out)
        latents, data = work.open(self.latents), self.data
        return Evaluation(
            corpus, latents, model, self.seed, self.compute, self.row, source=data.world, split=data.split
        )

    def predicting(self, passes: float, decoded: float = 0.0, memory: float = 0.0) -> Demand:
        """Of so many frames through the transformer, so many decoded, and bytes beside its weights."""
        model, spec = self.world_model, self.latents.spec
        if not isinstance(model, WorldModelStage):
            return Demand()  # a sanity row's, which has no transformer
        parameters = denoising(model.settings.dit, spec.grid, spec.channels, False).parameters
        flops = passes * model.predict_flops + decoded * model.decoder.decode_flops
        return Demand(flops=flops, memory=2 * parameters + memory)


def held_out(subject: Subject) -> dict[str, Any]:
    """The fields of :class:`HeldOut`."""
    return {
        **on_episodes(subject),
        "latents": subject.pull(LatentsStage),
        "world_model": subject.pull(WorldModelStage),
        "row": subject.row,
        "seed": subject.study.config.evaluation.seed,
        "left_out": subject.left_out,
    }


@dataclass(frozen=True, eq=False, kw_only=True)
class RolloutsStage(HeldOut[Rollouts]):
    """Let the world model continue held-out clips with their actions; a few are decoded for the report, too."""

    kind = "rollouts"
    seconds = 5.0

    settings: RolloutsConfig

    @classmethod
    def of(cls, subject: Subject) -> RolloutsStage:
        return cls(**held_out(subject), label=subject.sized, settings=subject.study.config.evaluation.rollouts)

    def demand(self, sizes: Sizes) -> Demand:
        config = self.settings
        passes = config.clips * generating(config.sampling, config.context, config.future)
        return self.reading(config.clips * (config.context + config.future), self.predicting(passes))

    def run(self, work: Workspace) -> None:
        evaluation = self.evaluation(work)
        rollouts = make_rollouts(evaluation, self.settings)
        rollouts.save(work.out)
        keep_clips(work.out / CLIPS, evaluation, rollouts, KEPT)
        work.write_facts(future=rollouts.future, costs={"rollout_seconds": rollouts.seconds})

    def open(self, work: Workspace) -> Rollouts:
        return Rollouts.load(work.out)


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbeStage(OnEpisodes[TrainedProbe]):
    """Train a probe on encoder latents of the training episodes. One that the data can't train says why."""

    kind = "probe"
    spared = True

    latents: LatentsStage
    probe: Probe
    settings: ProbeConfig
    seed: int
    actions: ActionSpec | None
    """As a model takes them that was trained elsewhere; None as recorded."""
    source: str
    """The probe's class and code: two with equal settings may read different things."""

    @classmethod
    def of_probe(cls, probe: Probe, subject: Subject) -> ProbeStage:
        return cls(
            **on_episodes(subject),
            label=f"{subject.label} {probe.name}",
            latents=subject.pull(LatentsStage),
            probe=probe,
            settings=subject.study.config.evaluation.probe,
            seed=redrawn(subject.seed, subject.study.config.evaluation.probe.redraw),
            actions=subject.actions,
            source=f"{type(probe).__qualname__} {probe.version}{code_of(type(probe))}",
        )

    @property
    def seconds(self) -> float:
        return self.settings.optim.steps * 0.02

    def demand(self, sizes: Sizes) -> Demand:
        """As if the data had what it predicts."""
        spec, optim = self.latents.spec, self.settings.optim
        probe = self.probe
        one = probing(probe.reader, spec.grid, spec.channels, probe.reads, probe.about, self.settings)  # type: ignore[arg-type] # modules hash
        return self.reading(optim.samples * probe.span, training(optim, one))

    def run(self, work: Workspace) -> None:
        corpus, latents = self.corpus(work), work.open(self.latents)
        if self.actions:
            corpus = corpus.for_model(self.actions)
        settings, seed, compute = self.settings, self.seed, self.compute
        train_probe(self.probe, corpus, latents, settings, seed, work.out, compute, work.progress).save(work.out)

    def open(self, work: Workspace) -> TrainedProbe:
        return TrainedProbe.load(work.out, self.probe.reader)


@cache
def probing(
    reader: type[Reader], grid: tuple[int, int], channels: int, frames: int, out: int, config: ProbeConfig
) -> Pass:
    """One sample through a probe."""
    return count(
        lambda: reader(frames, channels, grid, out, config),
        lambda probe: probe.eval()(blank(1, frames, *grid, channels)),
    )


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
        if not isinstance(self.world_model, WorldModelStage):
            return Demand()
        rollouts = next((s.settings for s in self.given if isinstance(s, RolloutsStage)), RolloutsConfig())
        load = self.metric.load(self.world_model.settings.dit.max_frames - 1, rollouts)
        return self.reading(load.read, self.predicting(load.passes, load.decoded, load.memory))

    def run(self, work: Workspace) -> None:
        evaluation = self.evaluation(work)
        try:
            needs = {name: work.open(stage) for name, stage in zip(self.names, self.given, strict=True)}
            rows, reason = measure(self.metric, evaluation, needs), ""
        except NotAvailable as why:
            rows, reason = Rows.concatenate([]), str(why)
        rows.save(work.out / ROWS)
        films.save(evaluation.films, work.out / films.FILMS)
        missing = [i.name for i in self.metric.infos if reason or (i.scored and i.source not in rows["metric"])]
        reason = reason or "its metric returned no rows"
        unavailable = [{"metric": name, "reason": reason} for name in missing]
        work.write_facts(unavailable=unavailable, costs=evaluation.costs)

    def open(self, work: Workspace) -> Rows:
        return Rows.load(work.out / ROWS)


def _stage(need: Any, subject: Subject) -> Stage:
    """The stage that makes what a metric needs."""
    if need == ROLLOUTS:
        return subject.pull(RolloutsStage)
    if isinstance(need, Recording):
        return RecordingStage.of_recording(need, subject)
    return ProbeStage.of_probe(need, subject.trained) if isinstance(need, Probe) else subject.pull(need)


@dataclass(frozen=True)
class Measured:
    """What the metrics of some spaces gave: rows; which the data can't give, and why; which failed."""

    rows: Rows
    unavailable: list[Unavailable]
    failed: list[Failure]
    infos: dict[str, MetricInfo]
    """What was to be measured, by name."""

    @classmethod
    def of(cls, stages: Sequence[MetricStage], runner: Runner, outcome: Outcome) -> Measured:
        """Put together from a run's outcome."""
        tables, unavailable, failed, work = list[Rows](), dict[str, Unavailable](), list[Failure](), runner.workspace
        for stage in stages:
            if stage in outcome.folders:
                tables.append(work.open(stage))
                unavailable |= {why["metric"]: Unavailable(**why) for why in work.facts(stage)["unavailable"]}
                continue
            cause = stage if stage in outcome.failed else next(s for s in closure([stage]) if s in outcome.failed)
            why = f"{'' if cause is stage else f'{cause}, which it needs: '}{outcome.failed[cause].why}"
            failed += [Failure(info.name, stage.label, why, str(runner.log(cause))) for info in stage.metric.infos]
        infos = {info.name: info for stage in stages for info in stage.metric.infos}
        return cls(Rows.concatenate(tables), [*unavailable.values()], failed, infos)
