"""A policy whose every answer is known, and mappings of it for each protocol."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.remote.mapping import ActionMapping, ObservationMapping, PolicyMapping, Protocol
from rslwm.remote.server import KEYS
from rslwm.types import end_effector_spec

SPEC = end_effector_spec(0.05, 0.25)
SIZE = 16


class Painter(Actor):
    """What the first row's pixels and the length of the instruction say, and how often it has acted since the start."""

    def start(self, observation: Observation) -> None:
        self.acted = 0

    def act(self, observation: Observation) -> Tensor:
        assert observation.frames is not None
        self.acted += 1
        pixels = observation.frames[:, -1, 0, :2].flatten(1)  # (B, 6)
        words = torch.tensor([[len(words) / 100 - 0.1 * self.acted] for words in observation.instructions])
        return torch.cat([2 * pixels - 1, words], 1)


def mapping(protocol: Protocol, address: str, **changes: object) -> PolicyMapping:
    """Of a :class:`Painter` that is served with :data:`SPEC`."""
    (image,), prompt = KEYS[protocol]
    image = f"{image}.primary" if protocol == "vla-eval" else image
    seen = ObservationMapping({image: 0}, (SIZE, SIZE), "stretch", "HWC", prompt)
    done = ActionMapping(
        width=7,
        columns={name: i for i, name in enumerate(SPEC.names)},
        scale={"translation": 1.0, "rotation": 1.0},
        mode="delta",
        frame="base",
        rotation="rotation_vector",
        gripper="-1 is open, 1 is closed" if protocol == "vla-eval" else "1 is open, 0 is closed",
        execute=1,
        hz=5.0,
    )
    return replace(PolicyMapping(protocol, address, seen, done, connect_s=5.0, timeout_s=5.0), **changes)  # type: ignore[arg-type]


def frames(places: int, seed: int = 0) -> Tensor:
    """(B, 1, H, W, 3), of whole numbers in 255ths as a renderer's are."""
    whole = np.random.default_rng(seed).integers(0, 256, (places, 1, SIZE, SIZE, 3))
    return torch.from_numpy(whole).float() / 255


def shown(places: int, seed: int = 0, done: Tensor | None = None) -> Observation:
    """What so many places show."""
    actions = torch.zeros(places, 0, SPEC.dims) if done is None else done
    words = tuple(f"push the red cube{'!' * p}" for p in range(places))
    return Observation(actions, frames=frames(places, seed), instructions=words)
