"""The nouns of the field, and the one glossary of shapes.

Every docstring and einops string in the project uses these letters and no others:

    B batch    T frames    V views    H W pixels    h w latent grid    C latent channels
    D model width    A action dimensions    K candidates

Video is ``(B, T, H, W, 3)``, uint8 or float in [0, 1]; latents are ``(B, T, h, w, C)``. ``action[t]`` is what the robot
does between frame t and frame t+1.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

ActionKind = Literal["translation", "rotation", "gripper", "other"]
Family = Literal["reconstruction", "semantic", "floor"]
Axis = Literal["fidelity", "planning", "representation"]
Role = Literal["value", "floor", "ceiling"]

AXES: tuple[Axis, ...] = ("fidelity", "planning", "representation")
GRIPPERS = ("1 is open, 0 is closed", "0 is open, 1 is closed")
"""Conventions that mirror each other; a conversion turns one into the other."""


class DataError(ValueError):
    """Data that can't be used as it is; the message names the file, the field, the value and the remedy."""


@dataclass(frozen=True)
class ActionSpec:
    """What a vector of actions means. It travels in the data set, the latent store and the checkpoint.

    ``low`` and ``high`` bound one action in ``units``; normalisation maps them to -1 and 1. Rotations are rotation
    vectors (axis times angle), extrinsic, in ``frame``.
    """

    names: tuple[str, ...]
    kinds: tuple[ActionKind, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    frame: str = "base"
    mode: Literal["delta", "absolute"] = "delta"
    gripper: str = GRIPPERS[0]
    hz: float = 5.0

    def __post_init__(self) -> None:
        for name in ("kinds", "units", "low", "high"):
            if len(getattr(self, name)) != len(self.names):
                raise ValueError(
                    f"ActionSpec.{name} has {len(getattr(self, name))} entries for {len(self.names)} dimensions"
                )
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not low < high:
                raise ValueError(f"ActionSpec: dimension {name!r} has bounds [{low}, {high}]; low must be below high")

    @property
    def dims(self) -> int:
        """A, the number of action dimensions."""
        return len(self.names)

    def where(self, *kinds: ActionKind) -> list[int]:
        """Indices of the dimensions of these kinds."""
        return [i for i, kind in enumerate(self.kinds) if kind in kinds]

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """(..., A) in units -> (..., A) with the bounds at -1 and 1; values outside the bounds are not clipped."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        return (2 * (np.asarray(actions, np.float32) - low) / (high - low) - 1).astype(np.float32)

    def denormalise(self, actions: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`normalise`."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        return ((np.asarray(actions, np.float32) + 1) / 2 * (high - low) + low).astype(np.float32)

    def composed(self, skip: int) -> ActionSpec:
        """The spec of ``skip`` consecutive actions composed into one: delta bounds grow, the gripper's don't."""
        grows = ("translation", "rotation") if self.mode == "delta" else ()
        scale = [skip if kind in grows else 1 for kind in self.kinds]
        return replace(
            self,
            low=tuple(v * s for v, s in zip(self.low, scale, strict=True)),
            high=tuple(v * s for v, s in zip(self.high, scale, strict=True)),
            hz=self.hz / skip,
        )

    def convert(self, actions: np.ndarray, source: ActionSpec) -> np.ndarray:
        """Actions (..., A) of ``source``, which :meth:`require` accepts, with this spec's gripper; not normalised."""
        if self.gripper == source.gripper:
            return actions
        converted = np.array(actions, np.float32)
        for i in self.where("gripper"):
            converted[..., i] = 1 - converted[..., i]
        return converted

    def require(self, other: ActionSpec, here: str, there: str) -> None:
        """Raise :class:`DataError` that names the first field in which the two specs mean something else.

        Where units and conventions are known, bounds mean nothing by themselves, and a gripper can be turned round, see
        :meth:`convert`.
        """
        known = {self.gripper, other.gripper} <= {*GRIPPERS}
        for name, mine in asdict(self).items():
            theirs = getattr(other, name)
            if name == "gripper" and known:
                continue
            if name in ("low", "high"):
                vague = [*([] if known else self.where("gripper")), *self.where("other")]
                mine, theirs = [mine[i] for i in vague], [theirs[i] for i in vague]
            if mine != theirs:
                raise DataError(
                    f"the action specs of {here} and {there} differ in {name!r}: {mine} against {theirs}. "
                    "Convert one of them; actions of two conventions can't be mixed."
                )

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ActionSpec:
        """Inverse of :meth:`to_dict`; raises TypeError for a field that is unknown or missing."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


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

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "grid": list(self.grid)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LatentSpec:
        return cls(**{**values, "grid": tuple(values["grid"])})


@dataclass(frozen=True)
class MetricRow:
    """One measurement of one unit; a study's ``rows.parquet`` is a table of these.

    ``unit`` is the episode: what the bootstrap resamples. ``window`` is the start frame inside it, ``k`` the horizon
    step, ``dim`` the action or state dimension where the metric has one. ``value`` is the measurement or, for metrics
    that are not means (correlations, AUC), the prediction that ``target`` is compared with. ``role`` says whether the
    row measures the space itself, its floor (knows nothing) or its ceiling (loses nothing).
    """

    latent: str
    family: str
    size: str
    seed: int
    metric: str
    axis: Axis
    split: str
    unit: str
    k: int
    value: float
    higher_is_better: bool
    target: float = float("nan")
    window: int = 0
    dim: str = ""
    role: Role = "value"


@dataclass(frozen=True)
class Unavailable:
    """A metric that could not be measured, and why. Reported as such, never as zero."""

    metric: str
    reason: str
