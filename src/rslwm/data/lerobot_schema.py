"""What a LeRobot v3 folder says of its columns, as lerobot 0.4.4 writes it: features, tasks and statistics."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rslwm.data.lerobot_info import CAMERA, LABELLED, STATE, SUCCESS
from rslwm.data.naming import Told, read_names
from rslwm.data.video import PIXEL_FORMAT
from rslwm.types import ActionSpec

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
_INDICES = ("frame_index", "episode_index", "index", "task_index")

_PART = r"(gripper|joint|eef?|tcp|end_effector|cartesian|finger)s?"
_QUANTITY = r"(position|pos|opening|width|orientation|ori|rotation|rot|quat|quaternion|pose|state|qpos|angle)s?"
_PROPRIOCEPTIVE = re.compile(rf"((robot|arm|left|right)\d*_)*{_PART}_{_QUANTITY}")

_MODES = {"delta": "delta_", "velocity": "vel_", "absolute": "abs_"}

Statistics = dict[str, np.ndarray]
"""``min``, ``max``, ``mean``, ``std``, ``count`` and ``q01`` to ``q99``, (d,) each; (3, 1, 1) for a camera."""


def proprioceptive(states: Sequence[str]) -> list[str]:
    """The states that a real robot knows of itself, by their names: together they are ``observation.state``, of which
    LeRobot's policies take one, where the recording has none of its own."""
    return [] if "state" in states else [name for name in states if _PROPRIOCEPTIVE.fullmatch(name)]


def state_key(name: str) -> str:
    """The feature of a recorded state; LeRobot allows no '/' in it."""
    return STATE if name == "state" else f"{STATE}.{name.replace('/', '.')}"


def action_names(spec: ActionSpec) -> list[str]:
    """Names that tell what the numbers are where the spec is absent: LeRobot's own tools drop it from ``info.json``."""
    names = [*spec.names]
    for what in ("", "{}_"):
        told = read_names(names)
        for i, (kind, mode) in enumerate(zip(spec.kinds, spec.modes, strict=True)):
            if kind not in ("gripper", "other") and told[i] != Told(kind, mode):
                names[i] = f"{_MODES[mode]}{what.format(kind)}{spec.names[i]}"
    return names


def declare(
    layout: Mapping[str, tuple[int, ...]], spec: ActionSpec, names: Mapping[str, Sequence[str]], parts: Sequence[str]
) -> dict[str, Any]:
    """``features`` of ``info.json`` for columns of these shapes a step; ``names`` has the dimensions of states by
    state, ``parts`` are the states that the plain one consists of."""
    known: dict[str, list[str]] = {state_key(name): [*dims] for name, dims in names.items()}
    if parts:
        dims = {part: names.get(part, range(layout[state_key(part)][0])) for part in parts}
        known[STATE] = [f"{part}_{name}" for part in parts for name in dims[part]]
    known["action"] = action_names(spec)
    features: dict[str, Any] = {}
    for key, shape in layout.items():
        vector = {"dtype": "float32", "shape": [*shape], "names": known.get(key)}
        features[key] = _video(shape, whole(spec.hz)) if key.startswith(CAMERA) else vector
    scalars = dict.fromkeys((SUCCESS, LABELLED), "bool") | {"timestamp": "float32"} | dict.fromkeys(_INDICES, "int64")
    return features | {key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in scalars.items()}


def column(values: np.ndarray) -> pa.Array:
    """(T, n) as a table holds it: lists of n, or scalars where n is 1."""
    if values.shape[1] == 1:
        return pa.array(values[:, 0])
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def whole(fps: float) -> float:
    """An integer where it is one, as LeRobot has it."""
    return int(fps) if fps == int(fps) else fps


def write_tasks(tasks: Mapping[str, int], path: Path) -> None:
    """LeRobot reads this table with pandas and expects the task as its index."""
    column = {"field_name": "task", "name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    index = {**column, "field_name": "task_index", "name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": [index, column], "pandas_version": "2.2.0"}
    schema = pa.schema({"task_index": pa.int64(), "task": pa.string()}, metadata={"pandas": json.dumps(pandas)})
    pq.write_table(pa.table({"task_index": [*tasks.values()], "task": [*tasks]}, schema=schema), path)


def _video(shape: tuple[int, ...], fps: float) -> dict[str, Any]:
    height, width, channels = shape
    details = {"height": height, "width": width, "codec": "h264", "pix_fmt": PIXEL_FORMAT, "is_depth_map": False}
    details |= {"fps": fps, "channels": channels}
    info = {f"video.{name}": value for name, value in details.items()} | {"has_audio": False}
    return {"dtype": "video", "shape": [*shape], "names": ["height", "width", "channels"], "info": info}


def describe(rows: np.ndarray) -> Statistics:
    """Statistics over the rows of (n, d); ``min`` and ``max`` keep the type, the others are float64."""
    moments = {"min": rows.min(axis=0), "max": rows.max(axis=0)}
    values = rows.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite actions are for the data check to report
        moments |= {"mean": values.mean(axis=0), "std": values.std(axis=0), "count": np.array([len(rows)])}
        quantiles = np.quantile(values, QUANTILES, axis=0)
    return moments | {f"q{100 * q:02.0f}": value for q, value in zip(QUANTILES, quantiles, strict=True)}


def describe_pixels(frames: np.ndarray) -> Statistics:
    """Statistics of the channels of (T, H, W, 3) uint8 in [0, 1], over every fourth pixel; ``count`` is of frames."""
    pixels = describe(frames[:, ::4, ::4].reshape(-1, frames.shape[-1]))
    return {name: value[:, None, None] / 255 for name, value in pixels.items()} | {"count": np.array([len(frames)])}


def combine(one: Statistics, other: Statistics) -> Statistics:
    """Statistics of the rows of both: exact, but for the quantiles, which LeRobot averages by count."""
    counts = np.array([one["count"][0], other["count"][0]], np.float64)
    share = counts / counts.sum()
    averaged = [name for name in one if name.startswith("q") or name == "mean"]
    with np.errstate(invalid="ignore"):
        apart = share.prod() * (one["mean"] - other["mean"]) ** 2
        std = np.sqrt(share[0] * one["std"] ** 2 + share[1] * other["std"] ** 2 + apart)
        combined = {name: share[0] * one[name] + share[1] * other[name] for name in averaged}
    extremes = {"min": np.minimum(one["min"], other["min"]), "max": np.maximum(one["max"], other["max"])}
    return {**one, **combined, **extremes, "std": std, "count": one["count"] + other["count"]}
