"""Training noise on record: what the same spaces measured when they were trained again under other seeds.

A study with one seed can't know how much of a difference is the luck of a training. A record made by a study with
several seeds (``rslwm report RUN --training-noise FILE``) tells it, for the configuration that it was made under and
no other: how far trainings lie apart depends on their length, on the data and on what is measured, and nobody knows by
how much. Records hold metrics in their own units, so they survive a change of scales and weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import Rows
from rslwm.serialisation import to_dict
from rslwm.types import DataError
from rslwm.verdict.bootstrap import Resampling, measure
from rslwm.verdict.combination import deviations, freedom

if TYPE_CHECKING:
    from rslwm.study.config import StudyConfig

READ = ("data", "encoder", "adapter", "decoder", "world_model", "evaluation", "sizes", "scaling")
"""Parts of a configuration on which training noise depends."""
UNREAD = ("checkpoint_every", "keep", "log_every", "monitor_every", "memory_mb", "min_rank", "weights")
"""Fields in them on which it doesn't."""


@dataclass(frozen=True)
class TrainingNoise:
    """A record. ``values[metric]`` is (L, S): the metric of every space and seed, in its own unit, NaN where missing.

    ``unlike`` says where the study that looked it up is configured otherwise; a record that is unlike isn't used.
    """

    name: str
    size: str
    spaces: tuple[str, ...]
    values: dict[str, np.ndarray]
    config: dict[str, Any]
    unlike: tuple[str, ...] = ()

    @property
    def freedom(self) -> int:
        return max(map(freedom, self.values.values()))

    def save(self, path: Path, units: Mapping[str, str]) -> None:
        """Write the record as JSON, with the standard deviation of each metric for readers."""
        metrics = {
            name: {"unit": units[name], "sd": _rounded(pooled_sd(found)), "freedom": freedom(found),
                   "values": [[_rounded(v) for v in space] for space in found.tolist()]}
            for name, found in self.values.items()
        }  # fmt: skip
        head = {"name": self.name, "size": self.size, "spaces": list(self.spaces), "config": self.config}
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
        body = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in metrics.items())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{\n{lines},\n "metrics": {{\n{body}\n }}\n}}\n')


def pooled_sd(trainings: np.ndarray) -> float:
    """Standard deviation between trainings (L, S) of a space, pooled over spaces."""
    return float(np.sqrt(np.nansum(deviations(trainings) ** 2) / freedom(trainings)))


def record(rows: Rows, metrics: Mapping[str, MetricInfo], config: StudyConfig, name: str) -> TrainingNoise:
    """The training noise of a study with several seeds, for studies with one.

    Raises:
        DataError: no space was trained under two seeds.
    """
    resampling = Resampling.of(rows, 0, config.verdict.confidence, config.verdict.seed)
    measured = {m: measure(rows, metrics[m], resampling).estimates["value"][0, ..., 0] for m in rows.distinct("metric")}
    values = {metric: found for metric, found in measured.items() if freedom(found)}
    if not values:
        raise DataError(
            "every space was trained once, which shows no training noise; --seeds 3 trains each three times"
        )
    return TrainingNoise(name, str(rows["size"][0]), resampling.spaces, values, facts(config))


def load(path: Any) -> TrainingNoise:
    """Read a record.

    Raises:
        DataError: the file is missing, or isn't such a record.
    """
    try:
        found = json.loads(path.read_text())
        values = {metric: np.array(entry["values"], float) for metric, entry in found["metrics"].items()}
        return TrainingNoise(found["name"], found["size"], tuple(found["spaces"]), values, found["config"])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; `rslwm report RUN --training-noise {path}` writes it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "write it again with `rslwm report RUN --training-noise FILE`"
        raise DataError(f"{path} is not a record of training noise ({error!r}); {remedy}") from None


def shipped() -> list[TrainingNoise]:
    """The records in the package."""
    folder = files("rslwm.study") / "noise"
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return [load(folder / name) for name in names if name.endswith(".json")]


def of_run(folder: Path, config: StudyConfig, rows: Rows) -> TrainingNoise | None:
    """:func:`find`, with a copy of the named file kept in the run's folder, so that its verdict can be made again."""
    named, kept = Path(config.verdict.training_noise), folder / "training_noise.json"
    if not config.verdict.training_noise:
        return find(config, rows)
    if named.is_file() and named.resolve() != kept.resolve():
        shutil.copyfile(named, kept)
    where = str(kept if kept.is_file() else named)
    return find(replace(config, verdict=replace(config.verdict, training_noise=where)), rows)


def find(config: StudyConfig, rows: Rows) -> TrainingNoise | None:
    """The record that ``config.verdict.training_noise`` names or, if it names none, the shipped one that fits best.

    Raises:
        DataError: the named file is missing or damaged.
    """
    named = config.verdict.training_noise
    candidates = [load(Path(named))] if named else shipped()
    size = str(rows["size"][0]) if len(rows) else ""
    compared = [_compared(candidate, config, size) for candidate in candidates]
    return min(compared, key=lambda candidate: len(candidate.unlike), default=None)


def _compared(noise: TrainingNoise, config: StudyConfig, size: str) -> TrainingNoise:
    here, usual = facts(config), facts(StudyConfig())
    pairs = {key: (noise.config.get(key, usual.get(key)), here.get(key)) for key in {**noise.config, **here}}
    pairs["size"] = (noise.size, size)
    unlike = tuple(f"{key} {there} there, {own} here" for key, (there, own) in pairs.items() if there != own)
    return replace(noise, unlike=unlike)


def facts(config: StudyConfig) -> dict[str, Any]:
    """What training noise depends on, flat: {"world_model.optim.steps": 450, ...}."""
    return dict(_flat({part: to_dict(getattr(config, part)) for part in READ}, ""))


def _flat(values: Mapping[str, Any], where: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{where}{key}.")
        elif key not in UNREAD:
            found.append((f"{where}{key}", value))
    return found


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
