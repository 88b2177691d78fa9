"""The description of a finished run, ``study.json``, and its verdict: what a report is made of beside the rows."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rslwm import __version__
from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import TEST, Rows
from rslwm.files import read_json
from rslwm.serialisation import ConfigError, from_dict, load, to_dict
from rslwm.study.config import StudyConfig
from rslwm.types import DataError, LatentSpec, Unavailable
from rslwm.verdict import training_noise
from rslwm.verdict.budget import REDRAWN, Piece
from rslwm.verdict.decide import Verdict, decide
from rslwm.verdict.training_noise import Circumstances, TrainingNoise


@dataclass(frozen=True)
class SpaceRecord:
    """A latent space of a run. ``cost`` holds means over the seeds, of ``peak_memory_mb`` the maximum; ``numerics`` the
    device and precision of its world model; ``taken`` is the shipped name or the folder of one that was trained
    elsewhere."""

    name: str
    spec: LatentSpec
    seeds: tuple[int, ...] = ()
    numerics: dict[str, str] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    taken: str = ""


@dataclass(frozen=True)
class Failure:
    """A metric that failed unexpectedly: for which space, why, and the file with all that was printed."""

    metric: str
    space: str
    reason: str
    log: str


@dataclass(frozen=True)
class Timing:
    """What a stage took."""

    stage: str
    space: str
    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class RunRecord:
    """A run. ``metrics`` declares what its rows hold; ``results`` has the version of what each stage and metric makes,
    ``versions`` those of the software; ``data`` are facts to be shown."""

    metrics: tuple[MetricInfo, ...]
    spaces: tuple[SpaceRecord, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
    failed: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    timings: tuple[Timing, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    command: str = ""

    def save(self, folder: Path) -> None:
        """Write ``study.json``."""
        (folder / "study.json").write_text(json.dumps(to_dict(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> RunRecord:
        """Read ``study.json``; :class:`DataError` if it is missing, damaged or of another version of rslwm."""
        path = folder / "study.json"
        if not path.is_file():
            raise DataError(f"{path} does not exist; `rslwm compare` writes it into the folder of its run")
        try:
            return from_dict(cls, read_json(path))
        except (DataError, ConfigError) as error:
            remedy = "the same `rslwm compare` again writes it anew and repeats nothing that is finished"
            raise DataError(f"{path} is no description of a run of this version ({error}); {remedy}") from None


def missing(unavailable: Iterable[Unavailable], failed: Sequence[Failure]) -> tuple[Unavailable, ...]:
    """Every metric that wasn't measured once, with its reason; that it failed says more than that data lack."""
    reasons = {entry.metric: entry.reason for entry in unavailable}
    reasons |= {entry.metric: f"failed for {entry.space}: {entry.reason}" for entry in failed}
    return tuple(Unavailable(metric, reason) for metric, reason in reasons.items())


def software() -> dict[str, str]:
    """The version of everything that a result can depend on."""
    packages = ("torch", "numpy", "scipy", "mujoco", "av", "pyarrow", "safetensors", "torchmetrics")
    machine = {"rslwm": __version__, "python": platform.python_version(), "platform": platform.platform()}
    return machine | {name: version(name) for name in packages}


@dataclass(frozen=True)
class Judged:
    """What a verdict is made of, read from a run's folder."""

    rows: Rows
    record: RunRecord
    config: StudyConfig

    @classmethod
    def load(cls, folder: Path) -> Judged:
        """Read ``rows.parquet``, ``study.json`` and ``config.yaml``, without which the defaults apply; raises
        :class:`DataError`, or of the last :class:`ConfigError`, if one is missing or damaged."""
        config = folder / "config.yaml"
        study = load(StudyConfig, config) if config.is_file() else StudyConfig()
        return cls(Rows.load(folder / "rows.parquet"), RunRecord.load(folder), study)

    @property
    def metrics(self) -> dict[str, MetricInfo]:
        return {info.name: info for info in self.record.metrics}

    @property
    def tested(self) -> Rows:
        """Without those on perturbed episodes."""
        return self.rows.where(self.rows["split"] == TEST)

    def circumstances(self) -> Circumstances:
        made = Circumstances.of(self.tested, to_dict(self.config), self.record.results)
        return made.taking([space.taken for space in self.record.spaces if space.taken])


def piece(folder: Path) -> Piece:
    """A run for :func:`rslwm.verdict.budget.budget`; raises what :meth:`Judged.load` does."""
    run = Judged.load(folder)
    config, made = to_dict(run.config), run.circumstances()
    drawn = {field: reduce(lambda part, key: part[key], field.split("."), config) for field in REDRAWN}
    return Piece(run.rows, run.metrics, made, made.config | drawn, run.config.verdict)


def judge(folder: Path) -> Verdict:
    """Decide from the rows of a run, and keep the verdict in its folder as ``verdict.json``; raises what
    :meth:`Judged.load` does."""
    run = Judged.load(folder)
    named = training_noise.kept(folder, run.config.verdict.training_noise)
    usual = Circumstances.of(run.tested, to_dict(StudyConfig()), {}).taking([])
    noise = training_noise.find(named, run.circumstances(), usual)
    numerics = {space.name: space.numerics for space in run.record.spaces if space.numerics}
    verdict = decide(run.rows, run.metrics, run.config.verdict, noise, run.record.unavailable, numerics)
    verdict.save(folder / "verdict.json")
    return verdict


PUBLISHED = ("study.json", "config.yaml", "verdict.json", "training_noise.json")
"""Of a run's folder, what its report is made of beside the rows, without stages and videos."""


def publish(folder: Path, out: Path) -> list[Path]:
    """Copy a run's rows, record, configuration and verdict, the home directory as ~; returns the copies."""
    out.mkdir(parents=True, exist_ok=True)
    rows = out / "rows.parquet"
    Rows.load(folder / rows.name).by_truth().save(rows)
    told = [out / name for name in PUBLISHED if (folder / name).is_file()]
    for copy in told:
        copy.write_text((folder / copy.name).read_text().replace(str(Path.home()), "~"))
    return [rows, *told]


def write_training_noise(folder: Path, out: Path) -> TrainingNoise:
    """Record the training noise of a run with several seeds, for runs of its configuration with one; raises what
    :meth:`Judged.load` does, and :class:`DataError` if every space was trained once."""
    run = Judged.load(folder)
    noise = training_noise.record(run.tested, run.metrics, run.circumstances(), out.stem)
    noise.save(out, {name: info.unit for name, info in run.metrics.items()})
    return noise
