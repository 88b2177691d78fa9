"""Studies with a known truth, for tests of the statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rslwm.evals.aggregates import AGGREGATES
from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import DTYPES, Rows
from rslwm.types import AXES, Axis
from rslwm.verdict.training_noise import Circumstances, TrainingNoise

DEFAULTS = {
    "family": "semantic", "size": "S", "seed": 0, "axis": "planning", "split": "test", "k": 1,
    "higher_is_better": True, "target": np.nan, "window": 0, "dim": "", "role": "value",
}  # fmt: skip


def rows(**columns: object) -> Rows:
    """Rows from broadcastable columns; what isn't given takes a default."""
    given = np.broadcast_arrays(*(np.asarray(v) for v in columns.values()))
    shape = given[0].shape
    table = dict(zip(columns, given, strict=True))
    full = {name: table.get(name, np.broadcast_to(DEFAULTS.get(name, np.nan), shape)) for name in DTYPES}
    return Rows({name: np.asarray(full[name].ravel(), dtype) for name, dtype in DTYPES.items()})


def join(*tables: Rows) -> Rows:
    return Rows({name: np.concatenate([t[name] for t in tables]) for name in DTYPES})


def info(name: str = "skill", aggregate: str = "mean", axis: Axis = "planning", **changes: object) -> MetricInfo:
    """A metric on a scale from 0 to 1."""
    values = {
        "name": name, "axis": axis, "higher_is_better": True, "unit": "1", "aggregate": AGGREGATES.get(aggregate),
        "floor": "chance", "ceiling": "perfection", "description": "", "floor_value": 0.0, "ceiling_value": 1.0,
        **changes,
    }  # fmt: skip
    return MetricInfo(**values)  # type: ignore[arg-type]


INFOS = {axis: info(axis, axis=axis) for axis in AXES}


def study(
    skills: Mapping[str, float],
    rng: np.random.Generator,
    episodes: int = 40,
    difficulty: float = 0.2,
    noise: float = 0.1,
    training: float = 0.0,
    seeds: int = 1,
    axes: Sequence[Axis] = AXES,
) -> Rows:
    """One metric an axis: skill + difficulty of the episode (common to all) + luck of the training + noise."""
    spaces = list(skills)
    hard = rng.normal(0, difficulty, (len(axes), 1, 1, episodes))
    luck = rng.normal(0, training, (1, len(spaces), seeds, 1)) if training else 0.0
    skill = np.array(list(skills.values()))[None, :, None, None]
    value = skill + hard + luck + rng.normal(0, noise, (len(axes), len(spaces), seeds, episodes))
    families = ["reconstruction" if "vae" in space else "semantic" for space in spaces]
    return rows(
        metric=np.array(axes)[:, None, None, None],
        axis=np.array(axes)[:, None, None, None],
        latent=np.array(spaces)[None, :, None, None],
        family=np.array(families)[None, :, None, None],
        seed=np.arange(seeds)[None, None, :, None],
        unit=np.array([f"episode-{i:03d}" for i in range(episodes)])[None, None, None, :],
        value=value,
    )


def record(sd: Mapping[str, float], rng: np.random.Generator | None = None) -> TrainingNoise:
    """Training noise of metrics as six spaces with three seeds would show it; without an rng by no chance."""
    exact = np.tile([-1.0, 0.0, 1.0], (6, 1))
    luck = {metric: exact if rng is None else rng.normal(size=(6, 3)) for metric in sd}
    return TrainingNoise("demo", tuple("abcdef"), {m: sd[m] * luck[m] for m in sd}, Circumstances("S", {}))
