"""What actions recorded with robosuite's controllers mean, from the ``env_args`` that robomimic and LIBERO keep.

An operational-space controller clips its input to ``[input_min, input_max]`` and maps it to ``[output_min,
output_max]``: metres, and radians of a rotation vector that turns the hand about the axes of the base or the world
(robosuite, controllers/osc.py, ``scale_action`` and ``set_goal``). Absolute poses are taken as they are. Grippers take
-1 to open and 1 to close (robosuite, models/grippers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rslwm.types import ActionKind, ActionSpec

_AXES = ("x", "y", "z", "rx", "ry", "rz")


@dataclass(frozen=True)
class Convention:
    """The spec of actions in metres and radians, and how recorded ones become such."""

    spec: ActionSpec
    low: tuple[float, ...]
    """What a recorded action is clipped to, and what is mapped to the spec's bounds; -inf where it isn't."""
    high: tuple[float, ...]

    def convert(self, actions: np.ndarray) -> np.ndarray:
        """(T, A) as recorded -> (T, A) float32 in the spec's units."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        scaled = np.isfinite(low)
        result = np.array(actions, np.float64)
        share = (np.clip(result, low, high) - low)[:, scaled] / (high - low)[scaled]
        floor, ceiling = np.asarray(self.spec.low)[scaled], np.asarray(self.spec.high)[scaled]
        result[:, scaled] = floor + share * (ceiling - floor)
        return result.astype(np.float32)


@dataclass(frozen=True)
class _Arm:
    """One arm's controller, with the fields of its configuration that matter."""

    dims: int  # 6 of a pose, 3 of a position; the gripper comes on top
    delta: bool
    frame: str
    inputs: tuple[np.ndarray, np.ndarray]
    outputs: tuple[np.ndarray, np.ndarray]


def convention(env_args: Any, recorded: np.ndarray) -> Convention | str:
    """The convention of recorded actions (N, A) by the file's JSON ``env_args``, or why it can't be told."""
    try:
        kwargs = env_args["env_kwargs"]
        hz = float(kwargs["control_freq"])
        controllers = _controllers(kwargs["controller_configs"])
        if not 0 < hz < np.inf:
            return f"control_freq is {hz:g}"
        if not controllers:
            return "controller_configs has a controller of something else than arms"
        arms = [_arm(controller) for controller in controllers]
    except KeyError as error:
        return f"env_args has no {error}"
    except (AttributeError, TypeError, ValueError) as error:
        return f"env_args is not as robosuite writes it ({error})"
    if len(arms) == 1 and isinstance(kwargs.get("robots"), list):
        arms *= max(1, len(kwargs["robots"]))
    if unknown := next((arm for arm in arms if isinstance(arm, str)), None):
        return f"the controller is {unknown}; OSC_POSE and OSC_POSITION of fixed impedance are known"
    known = [arm for arm in arms if isinstance(arm, _Arm)]
    if len({(arm.delta, arm.frame) for arm in known}) > 1:
        return "the arms' controllers differ in frame, or in whether they take deltas"
    if (dims := sum(arm.dims + 1 for arm in known)) != recorded.shape[1]:
        return f"its controllers take {dims} dimensions (with a gripper an arm), the actions have {recorded.shape[1]}"
    return _assemble(known, recorded, hz)


def _controllers(configs: Any) -> list[dict[str, Any]]:
    """One configuration an arm: a dictionary or a list of them, or since robosuite 1.5 one for every part of a body."""
    if isinstance(configs, list):
        return [controller for config in configs for controller in _controllers(config)]
    parts = configs.get("body_parts")
    if parts is None:
        return [configs]
    parts = parts.get("arms", {}) | {name: part for name, part in parts.items() if name != "arms"}
    return [*parts.values()] if {*parts} <= {"right", "left"} else []


def _arm(config: dict[str, Any]) -> _Arm | str:
    """An arm's controller, or what it is if it isn't one of those known."""
    kind, impedance = config.get("type"), config.get("impedance_mode", "fixed")
    if kind not in ("OSC_POSE", "OSC_POSITION") or impedance != "fixed":
        return f"{kind!r} (impedance_mode {impedance!r})"
    delta = config.get("control_delta", config.get("input_type", "delta") == "delta")
    size = 6 if kind == "OSC_POSE" else 3
    inputs = _range(config, "input", np.ones(6), size)
    outputs = _range(config, "output", np.array([0.05] * 3 + [0.5] * 3), size)
    return _Arm(size, bool(delta), str(config.get("input_ref_frame", "base")), inputs, outputs)


def _range(config: dict[str, Any], name: str, default: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """``name_min`` and ``name_max``, numbers or lists; robosuite's defaults are the same both ways."""
    bounds = []
    for end, value in (("min", -default), ("max", default)):
        given = config.get(f"{name}_{end}")
        vector = np.asarray(value if given is None else given, float)
        if vector.ndim > 1 or vector.shape < (size,) * vector.ndim:
            raise ValueError(f"{name}_{end} is {given}")
        bounds.append(vector[:size] if vector.ndim else np.full(size, vector))
    if not (bounds[0] < bounds[1]).all():
        raise ValueError(f"{name}_min isn't below {name}_max")
    return bounds[0], bounds[1]


def _assemble(arms: Sequence[_Arm], recorded: np.ndarray, hz: float) -> Convention:
    names: list[str] = []
    kinds: list[ActionKind] = []
    edges: list[Any] = []  # by dimension: what is mapped, and what to
    for i, arm in enumerate(arms):
        inputs, outputs = arm.inputs, arm.outputs
        if not arm.delta:
            there = recorded[:, len(names) : len(names) + arm.dims]
            inputs = (np.full(arm.dims, -np.inf), np.full(arm.dims, np.inf))
            outputs = there.min(axis=0), np.maximum(there.max(axis=0), there.min(axis=0) + 1e-6)
        edges += [*np.stack([*inputs, *outputs], axis=1).tolist(), [-1.0, 1.0, 0.0, 1.0]]
        robot = f"robot{i}_" if len(arms) > 1 else ""
        names += [f"{robot}{'delta_' * arm.delta}{axis}" for axis in _AXES[: arm.dims]]
        names.append(f"{robot}gripper")
        kinds += [*["translation"] * 3, *["rotation"] * (arm.dims - 3), "gripper"]  # type: ignore[list-item]
    low, high, least, most = zip(*edges, strict=True)
    spec = ActionSpec(
        names=tuple(names),
        kinds=tuple(kinds),
        units=tuple({"translation": "m", "rotation": "rad"}.get(kind, "1") for kind in kinds),
        low=least,
        high=most,
        frame=arms[0].frame,
        mode="delta" if arms[0].delta else "absolute",
        gripper="0 is open, 1 is closed",
        hz=hz,
    )
    return Convention(spec, low, high)
