"""A run's record, put together from what its stages left in their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rslwm.evals.base import metric_infos
from rslwm.latents.space import LatentSpace
from rslwm.run.runner import Stage, StageRecord
from rslwm.run.stage import LOG
from rslwm.study.graph import SpaceStages, Study
from rslwm.study.measuring import metric_versions
from rslwm.study.record import Failure, RunRecord, SpaceRecord, Timing, missing, software
from rslwm.study.stages import read_facts
from rslwm.types import Unavailable

Folders = dict[Stage, Path]


def describe(study: Study, folders: Folders, command: str) -> RunRecord:
    """The record of a finished study, whose stages lie in ``folders``."""
    by_name: dict[str, list[SpaceStages]] = {}
    for space in study.spaces:
        by_name.setdefault(space.entry.name, []).append(space)
    facts = [read_facts(folders[space.rows]) for space in study.spaces]
    data = read_facts(folders[study.data])
    failed = tuple(
        Failure(why["metric"], space.rows.name, why["reason"], str(folders[space.rows] / LOG))
        for space, found in zip(study.spaces, facts, strict=True)
        for why in found["failed"]
    )
    return RunRecord(
        metrics=tuple(metric_infos().values()),
        spaces=tuple(_space(name, spaces, folders) for name, spaces in by_name.items()),
        unavailable=missing((Unavailable(**entry) for fact in facts for entry in fact["unavailable"]), failed),
        failed=failed,
        notes=(*data.get("left_out", []), *_notes(study, min(fact["future"] for fact in facts))),
        data={key: value for key, value in data.items() if key not in ("root", "left_out")},
        timings=tuple(_timing(stage, StageRecord.read(folder)) for stage, folder in folders.items()),
        versions=software(),
        results={stage.kind: str(stage.version) for stage in folders} | metric_versions(),
        command=command,
    )


def _notes(study: Study, future: int) -> list[str]:
    """What the comparison leaves out, and what was measured otherwise than configured."""
    size, others, wanted = study.spaces[0].size, len(study.config.sizes) - 1, study.config.evaluation.future
    notes = [f"World models of size {size}; the run's other sizes have reports of their own."] if others > 0 else []
    if future != wanted:
        notes.append(
            f"Rollouts have {future} generated frames instead of {wanted}: the held-out episodes are no longer."
        )
    return notes


def _timing(stage: Stage, record: StageRecord) -> Timing:
    return Timing(stage.kind, stage.name, record.seconds, record.peak_bytes / 2**20)


def _space(name: str, spaces: list[SpaceStages], folders: Folders) -> SpaceRecord:
    spec = LatentSpace.load(folders[spaces[0].latents] / "space").spec
    compute = spaces[0].world_model.config.compute
    numerics = {"device": compute.device, "dtype": compute.dtype}
    return SpaceRecord.of(name, spec, numerics, {space.seed: _costs(space, folders) for space in spaces})


def _costs(space: SpaceStages, folders: Folders) -> dict[str, Any]:
    own = (space.encoder, space.adapter, space.latents, space.decoder, space.probes, space.rows, space.world_model)
    encoder, model = read_facts(folders[space.encoder]), read_facts(folders[space.world_model])
    trained = [encoder, model, read_facts(folders[space.decoder])]
    if space.adapter:
        trained.append(read_facts(folders[space.adapter]))
    peak = max(StageRecord.read(folders[stage]).peak_bytes for stage in own if stage)
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
