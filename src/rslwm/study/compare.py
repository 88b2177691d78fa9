"""A study from its configuration to its rows and verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rslwm.compute import measure_peak
from rslwm.evals import films
from rslwm.evals.rows import TRUTH, Rows
from rslwm.run.runner import Outcome, Runner
from rslwm.run.stage import StageRecord, Workspace, closure
from rslwm.serialisation import dump
from rslwm.shipping import CARD, Card
from rslwm.study.checkpoint import export, running
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.record import RunRecord, SpaceRecord, Timing, judge, missing, software
from rslwm.study.stages.base import DataStage
from rslwm.study.stages.encoder import EncoderStage
from rslwm.study.stages.latents import SpaceStage
from rslwm.study.stages.metric import CLIPS, ROWS, Measured, RolloutsStage
from rslwm.study.stages.world_model import WorldModelStage
from rslwm.study.subjects import Reference, Variant
from rslwm.tensors import opened, write_tensors
from rslwm.verdict.decide import Verdict


def compare(
    config: StudyConfig,
    out: Path,
    jobs: int = 0,
    command: str = "",
    finish: Callable[[Path], object] = lambda folder: None,
    executor: str = "local",
    cache: str = "",
) -> dict[Path, Verdict]:
    """Run what isn't there yet below ``out``, and what failed before; returns verdicts by the folders of comparisons.

    There is one, ``out`` itself, or one below it for each size that the study names. It gets ``rows.parquet``,
    ``verdict.json``, ``study.json``, ``config.yaml`` and ``clips/``; ``out`` also gets ``checkpoints/``.

    Args:
        finish: called with the folder of every comparison, while no other run may use it.
        cache: address of finished stages, see :class:`rslwm.run.runner.Runner`.

    Raises:
        StageFailed: a stage other than a metric failed; everything that doesn't need it is done and kept.
        ConfigError: the configuration can't be run, another run uses the folder, or the cache can't be reached.
        DataError: the weights of an encoder are missing or something else.
    """
    study = Study(config)
    runner = running(study, out, jobs, executor, cache)
    study.check(runner.finished)
    with runner.alone():
        if not runner.elsewhere and not all(map(runner.finished, study.targets)):
            measure_peak(config.compute)
        outcome = runner.run(study.targets)
        export(study, runner, WorldModelStage)
        parts = {out / size: variants for size, variants in study.by_size().items()}
        for folder in {out, *parts}:
            folder.mkdir(exist_ok=True)
            dump(config, folder / "config.yaml")
        verdicts = {at: _conclude(variants, runner, outcome, at, command) for at, variants in parts.items()}
        for folder in verdicts:
            finish(folder)
        return verdicts


def comparisons(out: Path) -> list[Path]:
    """Folders of a finished run's comparisons: its own, or one for each size."""
    if (out / ROWS).is_file():
        return [out]
    return sorted(path.parent for path in out.glob(f"*/{ROWS}")) or [out]


def run_of(folder: Path) -> Path:
    """The folder of the run that a comparison's folder is in: itself or, where the study names sizes, the one above."""
    return folder.absolute().parent if (folder.absolute().parent / "stages").is_dir() else folder


def _conclude(variants: Sequence[Variant], runner: Runner, outcome: Outcome, out: Path, command: str) -> Verdict:
    compared, beside = ([v for v in variants if isinstance(v, Reference) == known] for known in (False, True))
    of = {v: Measured.of([*v.metrics.values()], runner, outcome) for v in beside}
    measured = Measured.of([stage for v in compared for stage in v.metrics.values()], runner, outcome)
    out_there = Measured.of([stage for v in compared for stage in v.out_there], runner, outcome)
    Rows.concatenate([measured.rows, out_there.rows, *(found.rows for found in of.values())]).save(out / ROWS)
    _write_clips(compared, runner, out / "clips")
    _write_films(compared, runner, out / "films")
    record = describe(compared, measured, out_there, runner, command)
    lacking = dict.fromkeys(note for v, found in of.items() for note in _lacking(v, found, record))
    failed = [failure for found in of.values() for failure in found.failed]
    replace(record, failed=(*record.failed, *failed), notes=(*record.notes, *lacking)).save(out)
    return judge(out)


def _lacking(reference: Variant, measured: Measured, record: RunRecord) -> Iterator[str]:
    """What a sanity row lacks that the spaces beside it don't."""
    known = {entry.metric for entry in record.unavailable}
    reasons: dict[str, list[str]] = {}
    for entry in measured.unavailable:
        if entry.metric not in known:
            reasons.setdefault(entry.reason, []).append(entry.metric)
    for reason, metrics in reasons.items():
        yield f"{reference.entry.name} has no {', '.join(metrics)}: {reason}."


def _write_clips(variants: Sequence[Variant], runner: Runner, folder: Path) -> None:
    """The truth and every space's rollouts (its first seed's), in place of those of an earlier list of spaces."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, variant in {variant.entry.name: variant for variant in reversed(variants)}.items():
        with opened(runner.folder(variant.pull(RolloutsStage)) / CLIPS) as file:
            metadata, frames, truth = file.metadata(), file.get_tensor("frames"), file.get_tensor("truth")
        write_tensors({"frames": frames}, folder / f"{name}.safetensors", metadata)
    write_tensors({"frames": truth}, folder / f"{TRUTH}.safetensors", metadata)


def _write_films(variants: Sequence[Variant], runner: Runner, folder: Path) -> None:
    """What metrics want to be seen of every space (its first seed), in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, variant in {variant.entry.name: variant for variant in reversed(variants)}.items():
        shown = (runner.folder(stage) / films.FILMS for stage in variant.metrics.values())
        if found := [film for path in shown for film in films.load(path)]:
            folder.mkdir(exist_ok=True)
            films.save(found, folder / f"{name}.safetensors")


# ---------------------------------------------------------------------------------------------------------- its record


def describe(
    variants: Sequence[Variant], measured: Measured, out_there: Measured, runner: Runner, command: str
) -> RunRecord:
    """The record of a finished comparison: what was measured of it, and what under perturbations."""
    study, work = variants[0].study, runner.workspace
    data = work.facts(variants[0].pull(DataStage))
    done = [stage for stage in closure([s for v in variants for s in v.targets]) if runner.finished(stage)]
    took = {stage: StageRecord.read(runner.folder(stage)) for stage in done}
    names = dict.fromkeys(variant.entry.name for variant in variants)
    return RunRecord(
        metrics=tuple(study.infos.values()),
        spaces=tuple(_space([v for v in variants if v.entry.name == name], runner) for name in names),
        unavailable=missing(measured.unavailable, measured.failed),
        failed=(*measured.failed, *out_there.failed),
        notes=(*data.get("left_out", []), *_notes(variants, work)),
        data={key: value for key, value in data.items() if key not in ("root", "left_out")},
        timings=tuple(Timing(s.kind, s.label, r.seconds, r.peak_bytes / 2**20) for s, r in took.items()),
        versions=software(),
        results={stage.kind: stage.edition for stage in took} | study.editions,
        command=command,
    )


def _notes(variants: Sequence[Variant], work: Workspace) -> list[str]:
    """What the comparison leaves out, and what was measured otherwise than configured."""
    config, size = variants[0].study.config, variants[0].size
    future = min(work.facts(variant.pull(RolloutsStage))["future"] for variant in variants)
    wanted = config.evaluation.rollouts.future
    several = f"World models of size {size}; the run's other sizes have reports of their own."
    taken = dict.fromkeys(_taken(variant) for variant in variants if variant.entry.folder)
    short = f"Rollouts have {future} generated frames instead of {wanted}: the held-out episodes are no longer."
    return [*([several] if len(config.sizes) > 1 else []), *([short] if future != wanted else []), *_elsewhere(taken)]


def _taken(variant: Variant) -> tuple[str, str]:
    """The name under which a space was taken that was trained elsewhere, and what is known of where."""
    folder = Path(variant.entry.folder)
    data = Card.load(folder).data if (folder / CARD).is_file() else {}
    name, reference = variant.entry.name, variant.entry.reference
    known = "episodes" in data and "uri" in data
    where = f"{data['episodes']:,} episodes of {data['uri']}" if known else "other episodes"
    return reference if reference.startswith(f"{name}@") else f"{name} ({reference})", where


def _elsewhere(taken: Iterable[tuple[str, str]]) -> Iterator[str]:
    trained: dict[str, list[str]] = {}
    for name, where in taken:
        trained.setdefault(where, []).append(name)
    for where, names in trained.items():
        listed, unknown = ", ".join(names), "how another training would turn out is in no interval, its time in no cost"
        yield f"Latent spaces that were trained before, on {where}, and are taken as they are ({unknown}): {listed}."


def _space(variants: Sequence[Variant], runner: Runner) -> SpaceRecord:
    """Of the trainings of a space, which differ in the seed."""
    spec, compute = runner.workspace.open(variants[0].pull(SpaceStage)).spec, variants[0].study.compute
    costs = [_costs(variant, runner) for variant in variants]
    cost = {key: float(np.mean([c[key] for c in costs])) for key in costs[0]}
    cost["peak_memory_mb"] = max(c["peak_memory_mb"] for c in costs)
    cost["latent_bytes_per_frame"] = float(spec.bytes_per_frame)
    seeds = tuple(variant.seed for variant in variants)
    entry, numerics = variants[0].entry, {"device": compute.device, "dtype": compute.dtype}
    return SpaceRecord(entry.name, spec, seeds, numerics, cost, entry.reference if entry.folder else "")


def _costs(variant: Variant, runner: Runner) -> dict[str, float]:
    facts = runner.workspace.facts
    encoder, model = facts(variant.pull(EncoderStage)), facts(variant.pull(WorldModelStage))
    own = [*variant.costly, variant.pull(RolloutsStage), *variant.metrics.values()]
    own = [stage for stage in own if runner.finished(stage)]  # but for metrics that failed
    peaks = [StageRecord.read(runner.folder(stage)).peak_bytes for stage in own]
    found = {
        "encoder_parameters": encoder["parameters"],
        "encoder_flops_per_frame": encoder["flops_per_frame"],
        "encoder_training_flops": encoder.get("training_flops", 0.0),
        "encoder_frames_seen": encoder.get("frames_seen", 0),
        "world_model_parameters": model["parameters"],
        "world_model_training_flops": model["training_flops"],
        "training_seconds": sum(facts(stage).get("training_seconds", 0.0) for stage in variant.costly),
        "peak_memory_mb": max(peaks) / 2**20,
    }
    for stage in own:
        found |= facts(stage).get("costs", {})
    return {name: value for name, value in found.items() if value is not None}  # nobody knows what a folder's took
