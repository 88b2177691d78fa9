"""Training noise on record: what the same spaces measured when they were trained again under other seeds.

A study with one seed can't know how much of a difference is the luck of a training. A record made by a study with
several seeds (``rslwm report RUN --training-noise FILE``) tells it, for the circumstances that it was made under and
no others: how far trainings lie apart depends on their length, on the data and on what is measured, and nobody knows by
how much. Records hold metrics in their own units, so they survive a change of scales and weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import Rows
from rslwm.types import REFERENCE, DataError
from rslwm.verdict.bootstrap import Resampling, measure
from rslwm.verdict.combination import deviations, freedom

READ = ("data", "encoder", "adapter", "decoder", "world_model", "evaluation", "sizes", "scaling")
"""Parts of a configuration on which training noise depends."""
UNREAD = ("checkpoint_every", "keep", "log_every", "monitor_every", "memory_mb", "min_rank", "weights", "redraw")
"""Fields in them on which it doesn't."""
TAKEN = "spaces trained elsewhere"


@dataclass(frozen=True)
class Circumstances:
    """On what training noise depends: the world model's size, the configuration, flat, {"world_model.optim.steps":
    450, ...}, and the versions of what stages and metrics make, as far as they are known."""

    size: str
    config: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Rows, config: Mapping[str, Any], versions: Mapping[str, str]) -> Circumstances:
        """Of a study with this configuration, nested."""
        return cls.planned(str(rows["size"][0]) if len(rows) else "", config, versions)

    @classmethod
    def planned(cls, size: str, config: Mapping[str, Any], versions: Mapping[str, str] | None = None) -> Circumstances:
        """Of a study that hasn't been run."""
        return cls(size, dict(_flat({part: config[part] for part in READ})), dict(versions or {}))

    def taking(self, spaces: Sequence[str]) -> Circumstances:
        """The same with these spaces trained elsewhere: of them only the world models' training makes noise."""
        return replace(self, config={**self.config, TAKEN: ", ".join(sorted(spaces)) or "none"})

    def unlike(self, other: Circumstances, usual: Circumstances) -> tuple[str, ...]:
        """What is otherwise there; a field that one of them doesn't know yet has its ``usual`` value."""
        both = {key: None for key in (*other.config, *self.config)}
        pairs = {key: [c.config.get(key, usual.config.get(key)) for c in (other, self)] for key in both}
        pairs["size"] = [other.size, self.size]
        common = self.versions.keys() & other.versions
        pairs |= {f"version of {key}": [other.versions[key], self.versions[key]] for key in sorted(common)}
        return tuple(f"{key} {there} there, {here} here" for key, (there, here) in pairs.items() if there != here)


@dataclass(frozen=True)
class TrainingNoise:
    """A record. ``values[metric]`` is (L, S): the metric of every space and seed, in its own unit, NaN where missing.

    ``unlike`` says where the circumstances of the study that looked it up are others; then it isn't used.
    """

    name: str
    spaces: tuple[str, ...]
    values: dict[str, np.ndarray]
    made: Circumstances
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
        head = {"name": self.name, "size": self.made.size, "spaces": list(self.spaces),
                "versions": self.made.versions, "config": self.made.config}  # fmt: skip
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
        body = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in metrics.items())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{\n{lines},\n "metrics": {{\n{body}\n }}\n}}\n')


def pooled_sd(trainings: np.ndarray) -> float:
    """Standard deviation between trainings (L, S) of a space, pooled over spaces."""
    return float(np.sqrt(np.nansum(deviations(trainings) ** 2) / freedom(trainings)))


def record(rows: Rows, metrics: Mapping[str, MetricInfo], made: Circumstances, name: str) -> TrainingNoise:
    """The training noise of a study with several seeds, for studies with one.

    Raises:
        DataError: no space was trained under two seeds.
    """
    rows = rows.where(rows["family"] != REFERENCE)
    resampling = Resampling.of(rows, 0, 0.95, 0)  # no draws: the sample itself
    measured = {m: measure(rows, metrics[m], resampling).estimates["value"][0, ..., 0] for m in rows.distinct("metric")}
    values = {metric: found for metric, found in measured.items() if freedom(found)}
    if not values:
        raise DataError("every space was trained once, which shows no training noise; --seeds 3 trains each thrice")
    return TrainingNoise(name, resampling.spaces, values, made)


def load(path: Any) -> TrainingNoise:
    """Read a record.

    Raises:
        DataError: the file is missing, or isn't such a record.
    """
    try:
        found = json.loads(path.read_text())
        values = {metric: np.array(entry["values"], float) for metric, entry in found["metrics"].items()}
        made = Circumstances(found["size"], found["config"], found.get("versions", {}))
        return TrainingNoise(found["name"], tuple(found["spaces"]), values, made)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; `rslwm report RUN --training-noise {path}` writes it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "write it again with `rslwm report RUN --training-noise FILE`"
        raise DataError(f"{path} is not a record of training noise ({error!r}); {remedy}") from None


def shipped() -> list[TrainingNoise]:
    """The records in the package."""
    folder = files("rslwm.verdict") / "noise"
    return [load(entry) for entry in sorted(folder.iterdir(), key=lambda e: e.name) if entry.name.endswith(".json")]


def kept(folder: Path, named: str) -> str:
    """The record that a run is judged by: the named file, of which a copy is kept in the run's folder, so that its
    verdict can be made again; empty if none is named."""
    copy = folder / "training_noise.json"
    if named and Path(named).is_file() and Path(named).resolve() != copy.resolve():
        shutil.copyfile(named, copy)
    return str(copy) if named and copy.is_file() else named


def find(named: str, here: Circumstances, usual: Circumstances) -> TrainingNoise | None:
    """The named record or, if none is, the shipped one that fits best; ``usual`` is what applies by default.

    Raises:
        DataError: the named file is missing or damaged.
    """
    candidates = [load(Path(named))] if named else shipped()
    compared = [replace(noise, unlike=here.unlike(noise.made, usual)) for noise in candidates]
    return min(compared, key=lambda noise: len(noise.unlike), default=None)


def _flat(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{key}.")
        elif key not in UNREAD:
            yield f"{where}{key}", value


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
