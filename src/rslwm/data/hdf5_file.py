"""What a demonstration in an HDF5 file holds and what a file's attributes say; faults are named with file and field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.data.leaves import Leaf
from rslwm.types import DataError

_JOINTS = ("obs/joint_states", "obs/robot0_joint_pos")
_SAME = 1e-4
"""Radians between what is one joint angle, recorded twice in float32 or float64."""


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """The group ``data`` of a file."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{file} is read with h5py, which is not installed: pip install 'rslwm[hdf5]'") from None
    try:
        with h5py.File(file, "r") as content:
            if not isinstance(content.get("data"), h5py.Group):
                raise DataError(
                    f"{file} has no group 'data' as robomimic writes it; it has {', '.join(content) or 'nothing'}"
                )
            yield content["data"]
    except (OSError, RuntimeError, UnicodeError) as error:  # what h5py raises for bytes it can't make sense of
        remedy = " Copy the file again." if "truncated" in str(error) else ""
        raise DataError(f"{file} can't be read as HDF5: {error}.{remedy}") from None


def rows_of(demo: Any) -> int:
    """Steps of a demonstration: rows of its actions, or of what there is most of."""
    if hasattr(demo.get("actions"), "shape") and demo["actions"].shape:
        return int(demo["actions"].shape[0])
    counts = [shape[0] for _, shape in _datasets(demo) if shape]
    return max(counts, key=counts.count, default=0)


def _datasets(demo: Any) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = []
    demo.visititems(lambda key, item: found.append((key, item.shape or ())) if hasattr(item, "shape") else None)
    return found


def leaves_of(demo: Any, where: str) -> Iterator[Leaf]:
    """The datasets of a demonstration; what stands in ``next_obs`` is ``obs`` a step later."""
    rows = rows_of(demo)
    for key, shape in _datasets(demo):
        dtype = demo[key].dtype
        if key.startswith("next_obs/"):
            yield Leaf(key, "unknown", obstacle="the observation a step later")
        elif dtype.kind in "OSU":
            yield Leaf(key, "text")
        elif dtype.kind not in "fiub" or not shape or shape[0] != rows:
            obstacle = f"{shape[0] if shape else 'no'} rows for {rows} steps" if dtype.kind in "fiub" else "not numbers"
            yield Leaf(key, "unknown", obstacle=obstacle)
        else:
            yield Leaf(key, "numbers", str(dtype), tuple(shape[1:]))


def read(demo: Any, leaf: Leaf, where: str) -> np.ndarray:
    """(T, *shape) of one dataset."""
    stored = demo.get(leaf.key)
    if not hasattr(stored, "shape"):
        raise DataError(
            f"{where} has no {leaf.key!r}, which the first demonstration has. Remove it, or write it again."
        )
    if stored.shape != (rows_of(demo), *leaf.shape) or stored.dtype.kind not in "fiub":
        raise DataError(
            f"{where}: {leaf.key!r} is {stored.dtype} {stored.shape}; expected {rows_of(demo)} steps of {leaf.what}, "
            "as in the first demonstration"
        )
    return np.asarray(stored)


def rewards_of(demo: Any, where: str) -> np.ndarray:
    stored = demo.get("rewards")
    if stored is None:
        return np.zeros(0)
    if getattr(stored, "shape", None) is None or stored.dtype.kind not in "fiub":
        raise DataError(f"{where}: 'rewards' is not numbers")
    return np.asarray(stored, float)


def upside_down(data: Any) -> bool:
    """OpenGL's first row of a picture is its lowest; LIBERO notes with which convention it rendered."""
    return texts_of(data.attrs.get("macros_image_convention"), "macros_image_convention") == ["opengl"]


def is_late(demo: Any) -> bool:
    """Whether observations were taken after the action of their row.

    robomimic renders the state before an action; LIBERO steps first. The simulator's state (time, then positions, the
    arm's first) was kept before the step by both, so the joint angles tell.
    """
    key = next((key for key in _JOINTS if key in demo), None)
    if key is None or not all(len(getattr(demo.get(name), "shape", None) or ()) == 2 for name in (key, "states")):
        return False
    if demo[key].dtype.kind != "f" or demo["states"].dtype.kind != "f":
        return False
    joints, states = np.asarray(demo[key], float), np.asarray(demo["states"], float)
    if len(joints) < 3 or len(states) != len(joints) or states.shape[1:] < (joints.shape[1] + 1,):
        return False
    before, moved = states[:, 1 : 1 + joints.shape[1]], np.abs(np.diff(joints, axis=0)).max() > 10 * _SAME
    return bool(moved and np.abs(joints[:-1] - before[1:]).max() < _SAME < np.abs(joints - before).max())


def filters_of(data: Any, file: Path) -> dict[str, set[str]]:
    """Filter keys and the demonstrations they select."""
    masks = data.file.get("mask")
    return {name: {*texts_of(masks[name], f"{file}: mask/{name}")} for name in masks} if hasattr(masks, "keys") else {}


def attribute(group: Any, name: str) -> dict[str, Any]:
    """An attribute that holds JSON; empty if there is none."""
    where = f"{group.file.filename}: the attribute {name!r} of {group.name}"
    try:
        content = json.loads("".join(texts_of(group.attrs.get(name), where)) or "{}")
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON: {error}") from None
    return content if isinstance(content, dict) else {}


def texts_of(value: Any, where: str) -> list[str]:
    """The texts of an attribute or a data set, whatever string type it has."""
    if value is None or type(value).__name__ == "Empty":
        return []
    items: Iterable[Any] = np.atleast_1d(np.asarray(value)).ravel().tolist()
    try:
        # h5py gives bytes, or a str in which it escaped what isn't UTF-8
        texts = [item.decode() if isinstance(item, bytes) else str(item).encode().decode() for item in items]
    except UnicodeError as error:
        raise DataError(f"{where} is not UTF-8: {error}. Write it again.") from None
    return [text.strip() for text in texts if text.strip()]
