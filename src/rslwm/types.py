"""The nouns of the field, and the one glossary of shapes.

Every docstring and einops string in the project uses these letters and no others:

    B batch    T frames    V views    H W pixels    h w latent grid    C latent channels
    D model width    A action dimensions    K candidates

Video is ``(B, T, H, W, 3)``, uint8 or float in [0, 1]; latents are ``(B, T, h, w, C)``. ``action[t]`` is what the robot
does between frame t and frame t+1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from rslwm.dimensions import vectors

ActionKind = Literal["translation", "rotation", "angle", "quaternion", "joint", "gripper", "other"]
ActionMode = Literal["delta", "absolute", "velocity"]
Family = Literal["reconstruction", "semantic", "floor", "reference"]
Axis = Literal["fidelity", "planning", "representation"]
Role = Literal["value", "floor", "ceiling"]

Progress = Callable[[int, int, str], None]
"""Told how much of a long job is done: done, of how many, and what is to be shown beside the bar."""

AXES: tuple[Axis, ...] = ("fidelity", "planning", "representation")
REFERENCE: Family = "reference"
"""Of sanity rows, which are shown beside the spaces of a study and never compared with them."""
GRIPPERS = ("1 is open, 0 is closed", "0 is open, 1 is closed")
"""Conventions that mirror each other; a conversion turns one into the other."""


class DataError(ValueError):
    """Data that can't be used as it is; the message names the file, the field, the value and the remedy."""


@dataclass(frozen=True)
class ActionSpec:
    """What a vector of actions means. It travels in the data set, the latent store and the checkpoint.

    ``low`` and ``high`` bound one action in ``units``; normalisation maps them to -1 and 1. Rotations are rotation
    vectors (axis times angle), extrinsic, in ``frame``, three dimensions each; an angle turns about one axis.
    Quaternions are four dimensions whose names end in their x, y, z and w. ``mode`` says what the numbers are, of each
    dimension or, as one word, of all but grippers and others, which are absolute then.
    """

    names: tuple[str, ...]
    kinds: tuple[ActionKind, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    frame: str = "base"
    mode: ActionMode | tuple[ActionMode, ...] = "delta"
    gripper: str = GRIPPERS[0]
    hz: float = 5.0

    def __post_init__(self) -> None:
        for name in ("kinds", "units", "low", "high", *(["mode"] if isinstance(self.mode, tuple) else [])):
            if len(getattr(self, name)) != len(self.names):
                entries = len(getattr(self, name))
                raise ValueError(f"ActionSpec.{name} has {entries} entries for {len(self.names)} dimensions")
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not -math.inf < low < high < math.inf:
                raise ValueError(f"ActionSpec: dimension {name!r} has bounds [{low}, {high}]; low must be below high")
        if isinstance(self.mode, tuple):  # one word where one word says it: specs compare by equality
            same = [mode for mode in ("absolute", *get_args(ActionMode)) if self._spread(mode) == self.mode]
            object.__setattr__(self, "mode", (*same, self.mode)[0])
        _ = self.rotations, self.quaternions  # raise here what would stop a training

    @property
    def dims(self) -> int:
        """A, the number of action dimensions."""
        return len(self.names)

    def where(self, *kinds: ActionKind) -> list[int]:
        """Indices of the dimensions of these kinds."""
        return [i for i, kind in enumerate(self.kinds) if kind in kinds]

    @cached_property
    def modes(self) -> tuple[ActionMode, ...]:
        """What the numbers of each dimension are."""
        return self.mode if isinstance(self.mode, tuple) else self._spread(self.mode)

    def _spread(self, mode: ActionMode) -> tuple[ActionMode, ...]:
        return tuple("absolute" if kind in ("gripper", "other") else mode for kind in self.kinds)

    @property
    def moving(self) -> list[int]:
        """Indices of the dimensions that move the robot: no gripper, and no 'other' unless there is nothing else."""
        return [i for i, kind in enumerate(self.kinds) if kind not in ("gripper", "other")] or self.where("other")

    @cached_property
    def rotations(self) -> list[list[int]]:
        """Indices (x, y, z) of every rotation vector that is a delta; ValueError if these don't come in threes."""
        return self._vectors("rotation", 3, "Mark a single angle as 'angle' in the spec's kinds, it adds up")

    @cached_property
    def quaternions(self) -> list[list[int]]:
        """Indices (x, y, z, w) of every quaternion, in whatever order they are recorded; ValueError if these don't
        come in fours, or their names don't tell the order."""
        return self._vectors("quaternion", 4, "Let their names end in x, y, z and w")

    def _vectors(self, kind: ActionKind, size: int, remedy: str) -> list[list[int]]:
        places = [i for i in self.where(kind) if kind == "quaternion" or self.modes[i] == "delta"]
        try:
            groups = [[places[i] for i in group] for group in vectors([self.names[i] for i in places], size)]
        except ValueError as error:
            raise ValueError(f"of kind {kind!r} are {error}; each takes {size}. {remedy}.") from None
        for group in groups:
            if len({(self.modes[i], self.units[i]) for i in group}) > 1:
                raise ValueError(f"{[self.names[i] for i in group]} are one {kind}, but differ in mode or units")
        return groups

    def still(self, last: np.ndarray | None = None) -> np.ndarray:
        """The normalised action that keeps the robot where it is, (A,) or (..., A) as ``last``.

        Deltas and velocities are no change, in units, which asymmetric bounds don't map to 0. What is absolute keeps
        the value of ``last`` (..., A), the normalised action before, and is NaN without it.
        """
        nothing = np.zeros(self.dims, np.float32)
        nothing[[w for *_, w in self.quaternions if self.modes[w] == "delta"]] = 1
        still = self.normalise(nothing)
        kept = [i for i, mode in enumerate(self.modes) if mode == "absolute"]
        if last is None:
            still[kept] = np.nan
            return still
        still = np.broadcast_to(still, last.shape).copy()
        still[..., kept] = last[..., kept]
        return still

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """(..., A) in units -> (..., A) with the bounds at -1 and 1; values outside the bounds are not clipped."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        return (2 * (np.asarray(actions, np.float32) - low) / (high - low) - 1).astype(np.float32)

    def denormalise(self, actions: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`normalise`."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        return ((np.asarray(actions, np.float32) + 1) / 2 * (high - low) + low).astype(np.float32)

    def composed(self, skip: int) -> ActionSpec:
        """The spec of ``skip`` consecutive actions composed into one: the bounds of deltas grow, no others do."""
        low, high = np.array(self.low, float), np.array(self.high, float)
        grows = [i for i, mode in enumerate(self.modes) if mode == "delta"]
        low[grows], high[grows] = low[grows] * skip, high[grows] * skip
        for *xyz, w in (group for group in self.quaternions if group[3] in grows):
            low[xyz], high[xyz] = low[xyz].clip(-1), high[xyz].clip(max=1)
            turn = skip * math.acos(min(max(self.low[w], 0.0), 1.0))  # half the largest angle
            low[w], high[w] = min(self.low[w], math.cos(min(turn, math.pi / 2))), self.high[w]
        return replace(self, low=tuple(low.tolist()), high=tuple(high.tolist()), hz=self.hz / skip)

    def convert(self, actions: np.ndarray, source: ActionSpec) -> np.ndarray:
        """Actions (..., A) of ``source``, which :meth:`require` accepts, with this spec's gripper; not normalised."""
        if self.gripper == source.gripper:
            return actions
        converted = np.array(actions, np.float32)
        for i in self.where("gripper"):
            converted[..., i] = (1 if self.modes[i] == "absolute" else 0) - converted[..., i]
        return converted

    def require(self, other: ActionSpec, here: str, there: str) -> None:
        """Raise :class:`DataError` that names the first field in which the two specs mean something else.

        Where units and conventions are known, bounds mean nothing by themselves, and :meth:`convert` can turn a gripper
        round. Units "as recorded" aren't known.
        """
        known = {self.gripper, other.gripper} <= {*GRIPPERS}
        for name, mine in asdict(self).items():
            theirs = getattr(other, name)
            if name == "gripper" and known:
                continue
            if name in ("low", "high"):
                vague = [*([] if known else self.where("gripper")), *self.where("other")]
                vague += [i for i, unit in enumerate(self.units) if unit == "as recorded" and i not in vague]
                mine, theirs = [mine[i] for i in vague], [theirs[i] for i in vague]
            if mine != theirs:
                differ = f"the action specs of {here} and {there} differ in {name!r}: {mine} against {theirs}"
                raise DataError(
                    f"{differ}. Convert one, or give both one spec (data.action_spec) if they mean the same"
                )

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ActionSpec:
        """Inverse of :meth:`to_dict`; raises TypeError for a field that is unknown or missing."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


def silent(done: int, total: int, message: str) -> None:
    """The :data:`Progress` of a job that nobody watches."""


def end_effector_spec(translation: float, rotation: float, hz: float = 5.0) -> ActionSpec:
    """The 7-d delta end-effector action of BridgeData V2 and of the simulator: metres, radians, gripper in [0, 1]."""
    return ActionSpec(
        names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
        kinds=("translation",) * 3 + ("rotation",) * 3 + ("gripper",),
        units=("m",) * 3 + ("rad",) * 3 + ("1",),
        low=(-translation,) * 3 + (-rotation,) * 3 + (0.0,),
        high=(translation,) * 3 + (rotation,) * 3 + (1.0,),
        hz=hz,
    )


@dataclass
class Episode:
    """One recorded episode of T frames.

    ``frames[camera]`` is (T, H, W, 3) uint8; ``actions`` is (T, A) float32 in the spec's units, the last one leading
    to a frame that was not recorded; ``states[name]`` is (T, n) float32. ``success`` is None where nobody labelled it.
    """

    id: str
    frames: dict[str, np.ndarray]
    actions: np.ndarray
    instruction: str = ""
    success: bool | None = None
    states: dict[str, np.ndarray] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class LatentSpec:
    """What a latent space is, as data. ``preprocessing`` is a record of JSON types, kept with every latent store."""

    name: str
    family: Family
    grid: tuple[int, int]
    channels: int
    parameters: int = 0
    revision: str = ""
    licence: str = "Apache-2.0"
    preprocessing: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            record = json.loads(json.dumps(self.preprocessing, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"LatentSpec.preprocessing of {self.name!r} must be of JSON types: {error}") from None
        object.__setattr__(self, "preprocessing", record)  # a tuple would differ from what a checkpoint gives back

    @property
    def bytes_per_frame(self) -> int:
        """Stored bytes of one frame's latents in bfloat16."""
        return 2 * self.grid[0] * self.grid[1] * self.channels


@dataclass(frozen=True)
class Unavailable:
    """A metric that could not be measured, and why. Reported as such, never as zero."""

    metric: str
    reason: str
