"""What the world shows as a policy wants to see it, and what the policy answers as an action of the world."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import scipy
from PIL import Image

from rslwm.data.actions import compose
from rslwm.remote.arrays import ProtocolError
from rslwm.remote.mapping import PolicyMapping
from rslwm.serialisation import ConfigError
from rslwm.types import GRIPPERS, ActionSpec

_OPEN = {"1 is open, 0 is closed": (0, 1), "0 is open, 1 is closed": (1, 0), "1 is open, -1 is closed": (-1, 1),
         "-1 is open, 1 is closed": (1, -1)}  # fmt: skip
"""What is closed, what is open."""


class Adapter:
    """Between a world whose actions are of ``spec`` and a policy of a resolved ``mapping``. Raises what
    :meth:`PolicyMapping.steps` raises."""

    def __init__(self, mapping: PolicyMapping, spec: ActionSpec) -> None:
        self.mapping, self.spec = mapping, spec
        self.steps = mapping.steps(spec)
        """Actions of the policy in one of the world's."""

    def observation(self, frame: np.ndarray, instruction: str, truth: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What is sent: of a frame (H, V W, 3) in [0, 1], whose views lie side by side, and true states (n,).

        Raises:
            ConfigError: the mapping names a view or a state that the world doesn't have.
            ProtocolError: the frame isn't finite.
        """
        seen = self.mapping.observation
        if not np.isfinite(frame).all():
            raise ProtocolError("the world shows a frame that isn't finite")
        views = _views(frame)
        sent: dict[str, Any] = {}
        for key, number in seen.images.items():
            if not 0 <= number < len(views):
                raise ConfigError(f"observation.images.{key}: there is no view {number}; the world shows {len(views)}")
            _put(sent, key, self._picture(views[number]))
        for key, name in seen.states.items():
            if name not in truth:
                known = ", ".join(truth) or "none, as a world model does"
                remedy = "Leave it out, or take a policy that acts on what it sees"
                raise ConfigError(f"observation.states.{key}: no state {name!r}; the world shows {known}. {remedy}")
            _put(sent, key, np.asarray(truth[name], np.float32))
        for key, value in seen.constants.items():
            _put(sent, key, value)
        assert seen.prompt is not None
        _put(sent, seen.prompt, instruction)
        return sent

    def _picture(self, view: np.ndarray) -> np.ndarray:
        seen = self.mapping.observation
        assert seen.size is not None
        picture = Image.fromarray((np.clip(view, 0, 1) * 255).round().astype(np.uint8))
        fitted = np.asarray(padded(picture, *seen.size) if seen.resize == "pad" else stretched(picture, *seen.size))
        return np.ascontiguousarray(np.moveaxis(fitted, 2, 0) if seen.order == "CHW" else fitted)

    def actions(self, reply: np.ndarray) -> np.ndarray:
        """The actions (m, A) of a reply (D,) or (n, D) that are done before the policy is asked again, at its rate, in
        the units of ``spec``. Raises ProtocolError: another number of columns."""
        done = self.mapping.actions
        rows = np.atleast_2d(reply)
        if rows.shape[1] != done.width:
            raise ProtocolError(f"an action has {rows.shape[1]} numbers, the mapping says {done.width}")
        rows = rows[: done.execute]
        found = np.empty((len(rows), self.spec.dims))
        for place, (name, kind) in enumerate(zip(self.spec.names, self.spec.kinds, strict=True)):
            if name in done.fixed:
                found[:, place] = done.fixed[name]
            elif kind == "gripper":
                found[:, place] = self._gripper(rows[:, done.columns[name]])
            else:
                found[:, place] = rows[:, done.columns[name]] * done.scale.get(name, done.scale.get(kind, 1.0))
        if done.rotation == "euler_xyz":
            for vector in self._turns:
                degrees = self.spec.units[vector[0]].lower().startswith("deg")
                turns = scipy.spatial.transform.Rotation.from_euler("xyz", found[:, vector], degrees=degrees)
                found[:, vector] = turns.as_rotvec(degrees=degrees)
        return found

    @cached_property
    def _turns(self) -> list[list[int]]:
        """The turns that the policy gives."""
        columns = self.mapping.actions.columns
        return [vector for vector in self.spec.rotations if self.spec.names[vector[0]] in columns]

    def _gripper(self, values: np.ndarray) -> np.ndarray:
        done = self.mapping.actions
        assert done.gripper is not None
        closed, opened = _OPEN[done.gripper]
        if done.threshold is not None:
            values = np.where(values > done.threshold, max(closed, opened), min(closed, opened))
        opening = (values - closed) / (opened - closed)
        return opening if self.spec.gripper == GRIPPERS[0] else 1 - opening

    def composed(self, actions: np.ndarray) -> tuple[np.ndarray, int]:
        """The one action (A,) of the world that has the effect of ``steps`` of the policy's (steps, A), normalised and
        clipped, and how many of its numbers lay outside the bounds."""
        action = self.spec.normalise(compose(actions, self.spec))
        outside = np.abs(action) > 1 + 1e-4  # what float32 makes of the bounds themselves is inside
        return action.clip(-1, 1), int(outside.sum())


def stretched(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The whole picture in another shape, whatever that does to circles."""
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def padded(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The whole picture between black borders, to the pixel as openpi_client.image_tools.resize_with_pad."""
    if picture.size == (width, height):
        return picture
    ratio = max(picture.width / width, picture.height / height)
    inner = picture.resize((int(picture.width / ratio), int(picture.height / ratio)), Image.Resampling.BILINEAR)
    framed = Image.new("RGB", (width, height))
    framed.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return framed


def _views(frame: np.ndarray) -> list[np.ndarray]:
    """The square views of a frame; one view of another shape is itself."""
    height, width = frame.shape[:2]
    return np.split(frame, width // height, axis=1) if width % height == 0 else [frame]


def _put(sent: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        sent = sent.setdefault(part, {})
    sent[last] = value
