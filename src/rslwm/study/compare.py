"""A study from its configuration to its rows and verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open

from rslwm.compute import measure_peak
from rslwm.evals.rows import TRUTH, Rows
from rslwm.run.runner import Runner, closure
from rslwm.serialisation import dump
from rslwm.study.checkpoint import export_world_models, retry_failed
from rslwm.study.config import StudyConfig
from rslwm.study.describe import Folders, describe
from rslwm.study.graph import Builder, Study
from rslwm.study.record import judge
from rslwm.tensors import write_tensors
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
        StageFailed: a stage failed; everything that doesn't need it is done and kept.
        ConfigError: the configuration can't be run, or another run uses the folder.
        DataError: the weights of an encoder are missing or something else.
    """
    study, runner = Builder(config).build(), Runner(out, jobs, config.compute.threads)
    study.check(runner.finished)
    with runner.alone():
        retry_failed([space.rows for space in study.spaces], runner)
        if not all(map(runner.finished, study.targets)):
            measure_peak(config.compute)
        folders = runner.run(study.targets)
        export_world_models(study, runner)
        parts = {out / size: part for size, part in study.by_size().items()}
        for folder in {out, *parts}:
            folder.mkdir(exist_ok=True)
            dump(config, folder / "config.yaml")
        verdicts = {folder: _conclude(part, folders, folder, command) for folder, part in parts.items()}
        for folder in verdicts:
            finish(folder)
        return verdicts


def comparisons(out: Path) -> list[Path]:
    """Folders of a finished run's comparisons: its own, or one for each size."""
    if (out / "rows.parquet").is_file():
        return [out]
    return sorted(path.parent for path in out.glob("*/rows.parquet")) or [out]


def run_of(folder: Path) -> Path:
    """The folder of the run that a comparison's folder is in: itself or, where the study names sizes, the one above."""
    return folder.absolute().parent if (folder.absolute().parent / "stages").is_dir() else folder


def _conclude(study: Study, folders: Folders, out: Path, command: str) -> Verdict:
    rows = Rows.concatenate([Rows.load(folders[space.rows] / "rows.parquet") for space in study.spaces])
    rows.save(out / "rows.parquet")
    _write_clips(study, folders, out / "clips")
    own = {stage: folders[stage] for stage in closure(study.targets) if stage in folders}
    describe(study, own, command).save(out)
    return judge(out)


def _write_clips(study: Study, folders: Folders, folder: Path) -> None:
    """The truth and every space's rollouts (its first seed's), in place of those of an earlier list of spaces."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, space in {space.entry.name: space for space in reversed(study.spaces)}.items():
        with safe_open(folders[space.rows] / "clips.safetensors", "pt") as file:
            metadata, frames, truth = file.metadata(), file.get_tensor("frames"), file.get_tensor("truth")
        write_tensors({"frames": frames}, folder / f"{name}.safetensors", metadata)
    write_tensors({"frames": truth}, folder / f"{TRUTH}.safetensors", metadata)
