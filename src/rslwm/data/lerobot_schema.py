"""What a LeRobot v3 folder declares about its columns, as lerobot 0.4.4 writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rslwm.data.dataset import CAMERA, STATE
from rslwm.data.video import PIXEL_FORMAT
from rslwm.types import ActionSpec

LABELS = ("next.success", "next.success_labelled")
INDICES = ("frame_index", "episode_index", "index", "task_index")

_PART = r"(gripper|joint|eef?|tcp|end_effector|cartesian|finger)s?"
_QUANTITY = r"(position|pos|opening|width|orientation|rotation|rot|quat|quaternion|pose|state|qpos|angle)s?"
_PROPRIOCEPTIVE = re.compile(rf"((robot|arm|left|right)\d*_)*{_PART}_{_QUANTITY}")

_DELTA = re.compile(r".*delta.*|d_?([xyz]|r[xyz]|roll|pitch|yaw)")


def proprioceptive(states: Sequence[str]) -> list[str]:
    """The states that a real robot knows of itself, by their names; together they are ``observation.state``.

    LeRobot's policies take one state of that name. There is none to make where the recording has its own.
    """
    return [] if "state" in states else [name for name in states if _PROPRIOCEPTIVE.fullmatch(name)]


def state_key(name: str) -> str:
    """The feature of a recorded state; LeRobot allows no '/' in it."""
    return STATE if name == "state" else f"{STATE}.{name.replace('/', '.')}"


def action_names(spec: ActionSpec) -> list[str]:
    """Names that tell a delta from a pose where the spec is absent: LeRobot's own tools drop it from ``info.json``."""
    moves = spec.where("translation", "rotation") if spec.mode == "delta" else []
    plain = [i for i in moves if not _DELTA.fullmatch(spec.names[i].lower())]
    return [f"delta_{name}" if i in plain else name for i, name in enumerate(spec.names)]


def declare(
    layout: Mapping[str, tuple[int, ...]], spec: ActionSpec, names: Mapping[str, Sequence[str]], parts: Sequence[str]
) -> dict[str, Any]:
    """``features`` of ``info.json`` for columns of these shapes a step.

    ``names`` has the dimensions of states by state; ``parts`` are the states that the plain one consists of.
    """
    known: dict[str, list[str]] = {state_key(name): [*dims] for name, dims in names.items()}
    if parts:
        dims = {part: names.get(part, range(layout[state_key(part)][0])) for part in parts}
        known[STATE] = [f"{part}_{name}" for part in parts for name in dims[part]]
    known["action"] = action_names(spec)
    features: dict[str, Any] = {}
    for key, shape in layout.items():
        if key.startswith(CAMERA):
            features[key] = _video(shape, whole(spec.hz))
        else:
            features[key] = {"dtype": "float32", "shape": [*shape], "names": known.get(key)}
    scalars = dict.fromkeys(LABELS, "bool") | {"timestamp": "float32"} | dict.fromkeys(INDICES, "int64")
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
    return {
        "dtype": "video",
        "shape": [*shape],
        "names": ["height", "width", "channels"],
        "info": {f"video.{name}": value for name, value in details.items()} | {"has_audio": False},
    }
