"""A study from its configuration to its rows and verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from rslwm.compute import measure_peak
from rslwm.evals.rows import TRUTH
from rslwm.run.runner import Outcome, Runner
from rslwm.serialisation import dump
from rslwm.study.checkpoint import export_world_models
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study, Variant
from rslwm.study.stages.metric import ROWS, Measured
from rslwm.study.stages.rollouts import CLIPS, RolloutsStage
from rslwm.tensors import read_tensors, write_tensors
from rslwm.verdict.decide import Verdict


def compare(
    config: StudyConfig,
    out: Path,
    jobs: int = 0,
    command: str = "",
    finish: Callable[[Path], object] = lambda folder: None,
) -> dict[Path, Verdict]:
    """Run what isn't there yet below ``out``, and what failed before; returns the verdict by the folder of its
    comparison.

    That is ``out`` or, where the study names sizes, a folder below it for each. It gets ``rows.parquet``,
    ``verdict.json``, ``study.json``, ``config.yaml`` and ``clips/``; ``out`` also gets ``checkpoints/``.

    Args:
        finish: called with the folder of every comparison, while no other run may use it.

    Raises:
        StageFailed: a stage other than a metric failed; everything that doesn't need it is done and kept.
        ConfigError: the configuration can't be run, or another run uses the folder.
        DataError: the weights of an encoder are missing or something else.
    """
    study, runner = Study(config), Runner(out, jobs, config.compute.threads)
    study.check(runner.finished)
    with runner.alone():
        if not all(map(runner.finished, study.targets)):
            measure_peak(config.compute)
        outcome = runner.run(study.targets)
        export_world_models(study, runner)
        parts = {out / size: variants for size, variants in study.by_size().items()}
        for folder in {out, *parts}:
            folder.mkdir(exist_ok=True)
            dump(config, folder / "config.yaml")
        verdicts = {at: _conclude(study, variants, runner, outcome, at, command) for at, variants in parts.items()}
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


def _conclude(
    study: Study, variants: Sequence[Variant], runner: Runner, outcome: Outcome, out: Path, command: str
) -> Verdict:
    measured = Measured.of([stage for v in variants for stage in v.metrics.values()], runner, outcome)
    measured.rows.save(out / ROWS)
    _write_clips(variants, runner, out / "clips")
    record = describe(study, variants, measured, runner, command)
    record.save(out)
    noise = training_noise.of_run(out, study.config, measured.rows)
    verdict = decide(measured.rows, study.infos, study.config.verdict, noise, record)
    verdict.save(out)
    return verdict


def _write_clips(variants: Sequence[Variant], runner: Runner, folder: Path) -> None:
    """The truth and every space's rollouts (its first seed's), in place of those of an earlier list of spaces."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, variant in {variant.entry.name: variant for variant in reversed(variants)}.items():
        tensors, metadata = read_tensors(runner.folder(variant.pull(RolloutsStage)) / CLIPS)
        truth = tensors.pop("truth")
        write_tensors(tensors, folder / f"{name}.safetensors", metadata)
    write_tensors({"frames": truth}, folder / f"{TRUTH}.safetensors", metadata)
