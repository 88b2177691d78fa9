"""The folder of a finished study, read for its report; everything but the measurements is optional."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import TRUTH, Rows
from rslwm.serialisation import load
from rslwm.study.config import StudyConfig
from rslwm.types import DataError
from rslwm.verdict import training_noise
from rslwm.verdict.decide import decide
from rslwm.verdict.training_noise import TrainingNoise


@dataclass(frozen=True)
class Clips:
    """Rollouts beside the truth: ``frames[name]`` is (N, T, H, W, 3) uint8, the first ``context`` frames are given."""

    frames: dict[str, np.ndarray]
    context: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """What a report shows. ``verdict`` is ``Verdict.to_dict()``; ``study`` is ``study.json``."""

    path: Path
    verdict: dict[str, Any]
    study: dict[str, Any]
    config: str
    note: str
    clips: Clips | None

    @property
    def spaces(self) -> list[str]:
        return self.verdict["spaces"]

    def costs(self) -> dict[str, dict[str, float]]:
        """Cost figures of every space that has some."""
        spaces = {entry["name"]: entry.get("cost", {}) for entry in self.study.get("spaces", [])}
        return {name: spaces[name] for name in self.spaces if spaces.get(name)}


def load_run(path: Path) -> Run:
    """Read a run's folder; the verdict is computed again, unless ``verdict.json`` is all that there is.

    Raises:
        DataError: there are neither rows nor a verdict, or a file is damaged.
        ConfigError: ``config.yaml`` is damaged.
    """
    study = _read_json(path / "study.json") if (path / "study.json").is_file() else {}
    has_config = (path / "config.yaml").is_file()
    config = load(StudyConfig, path / "config.yaml") if has_config else StudyConfig()
    return Run(
        path=path,
        verdict=_verdict(path, study, config),
        study=study,
        config=(path / "config.yaml").read_text() if has_config else "",
        note=config.note,
        clips=_load_clips(path / "clips"),
    )


def _verdict(path: Path, study: dict[str, Any], config: StudyConfig) -> dict[str, Any]:
    rows, kept = path / "rows.parquet", path / "verdict.json"
    if kept.is_file() and not rows.is_file():
        return _read_json(kept)
    measured = Rows.load(rows)
    noise = training_noise.of_run(path, config, measured)
    verdict = decide(measured, _metrics(path, study), config.verdict, noise, study).to_dict()
    kept.write_text(json.dumps(verdict, indent=1, allow_nan=False))
    return verdict


def _metrics(path: Path, study: dict[str, Any]) -> dict[str, MetricInfo]:
    metrics = {entry["name"]: MetricInfo(**entry) for entry in study.get("metrics", [])}
    if not metrics:
        where = path / "study.json"
        raise DataError(f"{where} declares no metrics, so the rows beside it can't be judged; run the study again")
    return metrics


def write_training_noise(path: Path, out: Path) -> TrainingNoise:
    """Record the training noise of a run with several seeds, for runs of its configuration with one.

    Raises:
        DataError: every space was trained once, or a file of the run is missing or damaged.
    """
    measured = Rows.load(path / "rows.parquet")
    metrics = _metrics(path, _read_json(path / "study.json"))
    noise = training_noise.record(measured, metrics, load(StudyConfig, path / "config.yaml"), out.stem)
    noise.save(out, {name: info.unit for name, info in metrics.items()})
    return noise


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON ({error}); delete it and run the study again") from None


def _load_clips(folder: Path) -> Clips | None:
    """Frames of the truth and of every space, cut to what all of them have; None without truth."""
    if not (folder / f"{TRUTH}.safetensors").is_file():
        return None
    frames, notes = {}, {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as tensors:
            held = list(tensors.keys())
            if "frames" not in held:
                raise DataError(f"{path} has no tensor 'frames'; it holds: {', '.join(held)}")
            frames[path.stem] = tensors.get_tensor("frames")
            notes[path.stem] = tensors.metadata() or {}
    clips, length = (min(f.shape[axis] for f in frames.values()) for axis in (0, 1))
    truth = notes[TRUTH]
    ids = json.loads(truth.get("ids", "[]"))[:clips] or [f"clip {i + 1}" for i in range(clips)]
    cut = {name: array[:clips, :length] for name, array in frames.items()}
    return Clips(cut, json.loads(truth.get("context", "0")), tuple(map(str, ids)))
