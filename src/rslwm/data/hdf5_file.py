"""What a demonstration in an HDF5 file holds and what a file's attributes say; faults are named with file and field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rslwm.data.frames import rgb
from rslwm.data.leaves import Leaf
from rslwm.types import DataError

R = TypeVar("R")
_JOINTS = ("obs/joint_states", "obs/robot0_joint_pos")
_SAME = 1e-4  # radians between what is one joint angle, recorded twice in float32 or float64


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """The group ``data`` of a file."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{file} is read with h5py, which is not installed: pip install 'rslwm[hdf5]'") from None
    with _understood(file):
        content = h5py.File(file, "r")
    with content:
        with _understood(file):
            data = content.get("data")
            if not isinstance(data, h5py.Group):
                has = ", ".join(content) or "nothing"
                raise DataError(f"{file} has no group 'data' as robomimic writes it; it has {has}")
        yield data


@contextmanager
def _understood(file: Path) -> Iterator[None]:
    """Whatever h5py raises for bytes that it can't make sense of is a :class:`DataError` that names the file."""
    try:
        yield
    except DataError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        remedy = " Copy the file again." if "truncated" in str(error) else ""
        raise DataError(f"{file} can't be read as HDF5: {error}.{remedy}") from None


def _reading(read: Callable[..., R]) -> Callable[..., R]:
    """Of a demonstration: what it reads is there only now, and may be damaged."""

    @wraps(read)
    def guarded(self: Demonstration, *arguments: Any) -> R:
        with _understood(self.file):
            return read(self, *arguments)

    return guarded


def groups_of(data: Any, file: Path) -> list[tuple[str, Any]]:
    """The groups in one of a file by name, in the order of their numbers."""

    def numbered(name: str) -> list[int | str]:
        return [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", name)]

    with _understood(file):
        found = [(name, data[name]) for name in sorted(data, key=numbered)]
    return [(name, group) for name, group in found if hasattr(group, "keys")]


@dataclass
class Demonstration:
    """A group ``data/demo_N``."""

    file: Path
    name: str
    group: Any

    @property
    def where(self) -> str:
        return f"{self.file}: data/{self.name}"

    @cached_property
    @_reading
    def rows(self) -> int:
        """Its steps: rows of its actions, or of what there is most of."""
        if hasattr(self.group.get("actions"), "shape") and self.group["actions"].shape:
            return int(self.group["actions"].shape[0])
        counts = [item.shape[0] for item in self._datasets.values() if item.shape]
        return max(counts, key=counts.count, default=0)

    @property
    @_reading
    def _datasets(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.group.visititems(lambda key, item: found.update({key: item}) if hasattr(item, "shape") else None)
        return found

    @_reading
    def leaves(self) -> list[Leaf]:
        """Its datasets; what stands in ``next_obs`` is ``obs`` a step later."""
        return [self._leaf(key, item) for key, item in self._datasets.items()]

    def _leaf(self, key: str, item: Any) -> Leaf:
        kind, shape = item.dtype.kind, item.shape or ()
        if key.startswith("next_obs/"):
            return Leaf(key, "unknown", obstacle="the observation a step later")
        if kind in "OSU":
            return Leaf(key, "text")
        if kind not in "fiub":
            return Leaf(key, "unknown", obstacle="not numbers")
        if shape[:1] != (self.rows,):
            return Leaf(key, "unknown", obstacle=f"{shape[0] if shape else 'no'} rows for {self.rows} steps")
        return Leaf(key, "numbers", str(item.dtype), tuple(shape[1:]))

    @_reading
    def numbers(self, leaf: Leaf) -> np.ndarray:
        """(T, *shape)"""
        stored = self.group.get(leaf.key)
        if not hasattr(stored, "shape"):
            raise DataError(f"{self.where} has no {leaf.key!r}, unlike the first. Remove it, or write it again.")
        if stored.shape != (self.rows, *leaf.shape) or stored.dtype.kind not in "fiub":
            wanted = f"{self.rows} steps of {leaf.what}, as in the first demonstration"
            raise DataError(f"{self.where}: {leaf.key!r} is {stored.dtype} {stored.shape}; expected {wanted}")
        return np.asarray(stored)

    def pictures(self, leaf: Leaf) -> np.ndarray:
        """(T, H, W, 3) uint8"""
        frames = self.numbers(leaf)
        return rgb(frames[:, ::-1] if self.upside_down else frames)

    @property
    @_reading
    def upside_down(self) -> bool:
        """OpenGL's first row of a picture is its lowest; LIBERO notes with which convention it rendered."""
        return texts_of(self.group.parent.attrs.get("macros_image_convention"), "macros_image_convention") == ["opengl"]

    @property
    @_reading
    def rewards(self) -> np.ndarray:
        stored = self.group.get("rewards")
        if stored is None:
            return np.zeros(0)
        if getattr(stored, "shape", None) is None or stored.dtype.kind not in "fiub":
            raise DataError(f"{self.where}: 'rewards' is not numbers")
        return np.asarray(stored, float)

    @cached_property
    @_reading
    def is_late(self) -> bool:
        """Whether observations were taken after the action of their row.

        robomimic renders the state before an action; LIBERO steps first. The simulator's state (time, then positions,
        the arm's first) was kept before the step by both, so the joint angles tell.
        """
        arm: Any = next((self.group[key] for key in _JOINTS if key in self.group), None)
        found = (arm, self.group.get("states"))
        floats = [each for each in found if hasattr(each, "ndim") and each.ndim == 2 and each.dtype.kind == "f"]
        if len(floats) < 2:
            return False
        joints, states = (np.asarray(each, float) for each in floats)
        if len(joints) < 3 or len(states) != len(joints) or states.shape[1:] < (joints.shape[1] + 1,):
            return False
        before, moved = states[:, 1 : 1 + joints.shape[1]], np.abs(np.diff(joints, axis=0)).max() > 10 * _SAME
        return bool(moved and np.abs(joints[:-1] - before[1:]).max() < _SAME < np.abs(joints - before).max())

    @_reading
    def instruction(self, keys: Iterable[str]) -> str:
        """The text of one of these datasets, or of the demonstration's attributes, or the file's."""
        if key := next((key for key in keys if key in self.group), ""):
            return next(iter(texts_of(self.group[key], f"{self.where}/{key}")), "")
        data = self.group.parent
        problem, own = attribute(data, "problem_info"), attribute(self.group, "ep_meta")
        candidates = [self.group.attrs.get("language_instruction"), self.group.attrs.get("lang"), own.get("lang")]
        candidates += [problem.get("language_instruction"), data.attrs.get("language_instruction")]
        joined = (" ".join(texts_of(found, f"{self.where}: the instruction")) for found in candidates)
        return next(filter(None, joined), "")


def filters_of(data: Any, file: Path) -> dict[str, set[str]]:
    """Filter keys and the demonstrations they select."""
    with _understood(file):
        masks = data.file.get("mask")
        names = masks if hasattr(masks, "keys") else ()
        return {name: {*texts_of(masks[name], f"{file}: mask/{name}")} for name in names}


def attribute(group: Any, name: str) -> dict[str, Any]:
    """An attribute that holds JSON; empty if there is none."""
    where = f"{group.file.filename}: the attribute {name!r} of {group.name}"
    with _understood(Path(group.file.filename)):
        text = "".join(texts_of(group.attrs.get(name), where)) or "{}"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
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
