"""A study from its configuration to its rows and verdict."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from rslwm import __version__
from rslwm.compute import measure_peak
from rslwm.evals.base import metric_infos
from rslwm.evals.rows import TRUTH, Rows
from rslwm.latents.space import LatentSpace
from rslwm.run.runner import Runner, Stage, StageRecord, closure
from rslwm.run.stage import LOG
from rslwm.serialisation import dump
from rslwm.study.checkpoint import export_world_models, retry_failed
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Builder, SpaceStages, Study
from rslwm.study.stages import read_facts
from rslwm.tensors import write_tensors
from rslwm.verdict import training_noise
from rslwm.verdict.decide import Verdict, decide

Folders = dict[Stage, Path]


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
    description = describe(study, own, command)
    (out / "study.json").write_text(json.dumps(description, indent=1))
    noise = training_noise.of_run(out, study.config, rows)
    verdict = decide(rows, metric_infos(), study.config.verdict, noise, description)
    (out / "verdict.json").write_text(json.dumps(verdict.to_dict(), indent=1, allow_nan=False))
    return verdict


def describe(study: Study, folders: Folders, command: str) -> dict[str, Any]:
    """What the report needs beside the rows: spaces and their costs, what is missing and why, data, versions, times."""
    by_name: dict[str, list[SpaceStages]] = {}
    for space in study.spaces:
        by_name.setdefault(space.entry.name, []).append(space)
    facts = [read_facts(folders[space.rows]) for space in study.spaces]
    data = read_facts(folders[study.data])
    failed = _failures(study, folders)
    missing = {entry["metric"]: entry["reason"] for fact in facts for entry in fact["unavailable"]}
    missing |= {entry["metric"]: f"failed for {entry['space']}: {entry['reason']}" for entry in failed}
    return {
        "spaces": [_describe_space(name, spaces, folders) for name, spaces in by_name.items()],
        "unavailable": [{"metric": name, "reason": reason} for name, reason in missing.items()],
        "failed": failed,
        "notes": [*data.get("left_out", []), *_notes(study, facts)],
        "data": {key: value for key, value in data.items() if key not in ("root", "left_out")},
        "metrics": [asdict(info) for info in metric_infos().values()],
        "timings": list(_timings(folders)),
        "versions": versions(),
        "command": command,
    }


def _failures(study: Study, folders: Folders) -> list[dict[str, Any]]:
    """Metrics that failed unexpectedly, where, why, and the file with all that was printed."""
    return [
        {"metric": why["metric"], "space": space.rows.name, "reason": why["reason"], "log": str(folder / LOG)}
        for space in study.spaces
        for folder in [folders[space.rows]]
        for why in read_facts(folder)["failed"]
    ]


def _notes(study: Study, facts: list[dict[str, Any]]) -> list[str]:
    """What the comparison leaves out, and what was measured otherwise than configured."""
    wanted, future = study.config.evaluation.future, min(fact["future"] for fact in facts)
    size, others = study.spaces[0].size, len(study.config.sizes) - 1
    notes = [f"World models of size {size}; the run's other sizes have reports of their own."] if others > 0 else []
    if future != wanted:
        notes.append(
            f"Rollouts have {future} generated frames instead of {wanted}: the held-out episodes are no longer."
        )
    return notes


def _describe_space(name: str, spaces: list[SpaceStages], folders: Folders) -> dict[str, Any]:
    """Costs are means over the seeds, peaks maxima."""
    spec = LatentSpace.load(folders[spaces[0].latents] / "space").spec
    costs = [_costs(space, folders) for space in spaces]
    cost = {key: float(np.mean([c[key] for c in costs])) for key in costs[0]}
    cost["peak_memory_mb"] = max(c["peak_memory_mb"] for c in costs)
    cost["latent_bytes_per_frame"] = spec.bytes_per_frame
    return {
        "name": name,
        "family": spec.family,
        "spec": spec.to_dict(),
        "seeds": [s.seed for s in spaces],
        "numerics": {name: getattr(spaces[0].world_model.config.compute, name) for name in ("device", "dtype")},
        "cost": cost,
    }


def _costs(space: SpaceStages, folders: Folders) -> dict[str, float]:
    encoder, model = read_facts(folders[space.encoder]), read_facts(folders[space.world_model])
    trained = [encoder, model, read_facts(folders[space.decoder])]
    if space.adapter:
        trained.append(read_facts(folders[space.adapter]))
    own = [s for s in (space.encoder, space.adapter, space.latents, space.decoder, space.probes, space.rows) if s]
    peak = max(StageRecord.read(folders[s]).peak_bytes for s in [*own, space.world_model])
    return {
        "encoder_parameters": encoder["parameters"],
        "encoder_flops_per_frame": encoder["flops_per_frame"],
        "encoder_training_flops": encoder.get("training_flops", 0.0),
        "encoder_frames_seen": encoder.get("frames_seen", 0),
        "world_model_parameters": model["parameters"],
        "world_model_training_flops": model["training_flops"],
        "training_seconds": sum(facts.get("training_seconds", 0.0) for facts in trained),
        "peak_memory_mb": peak / 2**20,
        **read_facts(folders[space.rows])["costs"],
    }


def _timings(folders: Folders) -> Iterable[dict[str, Any]]:
    for stage, folder in folders.items():
        record = StageRecord.read(folder)
        yield {
            "stage": stage.kind,
            "space": stage.name,
            "seconds": record.seconds,
            "peak_mb": record.peak_bytes / 2**20,
        }


def _write_clips(study: Study, folders: Folders, folder: Path) -> None:
    """The truth and every space's rollouts (its first seed's), in place of those of an earlier list of spaces."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, space in {space.entry.name: space for space in reversed(study.spaces)}.items():
        with safe_open(folders[space.rows] / "clips.safetensors", "pt") as file:
            metadata, frames, truth = file.metadata(), file.get_tensor("frames"), file.get_tensor("truth")
        write_tensors({"frames": frames}, folder / f"{name}.safetensors", metadata)
    write_tensors({"frames": truth}, folder / f"{TRUTH}.safetensors", metadata)


def versions() -> dict[str, str]:
    """Of everything that a result can depend on."""
    packages = ("torch", "numpy", "scipy", "mujoco", "av", "pyarrow", "safetensors", "torchmetrics")
    return {
        "rslwm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in packages},
    }
