"""Policies: actors that look at frames and instructions and at nothing else."""

from __future__ import annotations

import copy
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.sight import SIDE, SIGHTS, Sight, SightConfig
from rslwm.actors.words import numbered
from rslwm.sim.scene import ROTATION_BOUND, TRANSLATION_BOUND
from rslwm.types import DataError, end_effector_spec

FRAME_SKIP = 2
"""Control steps of an action of theirs."""
SPEC = end_effector_spec(TRANSLATION_BOUND, ROTATION_BOUND).composed(FRAME_SKIP)


class Policy(Actor):
    """Looks with a network, whose numbers a subclass turns into actions.

    Of an observation it uses ``frames``, of which the last two, and ``instructions``, and no more; it remembers the
    frame before by itself. Frames of another size are resized.
    """

    out: ClassVar[int]
    """Numbers that its network gives."""
    memory: ClassVar[tuple[str, ...]] = ("_said", "_before")
    """Names of what it remembers of every place, a row each."""

    def __init__(self, sight: SightConfig) -> None:
        self.spec = SPEC
        self.network: Sight = SIGHTS[sight.kind](sight, self.out)

    @staticmethod
    def loss(out: Tensor, actions: Tensor, facts: Tensor) -> Tensor:
        """Of the network's numbers (B, out), where the expert's actions are (B, A) and the facts (B, WIDTH)."""
        raise NotImplementedError

    def decide(self, out: Tensor) -> Tensor:
        """(B, out) -> the action (B, A), normalised."""
        raise NotImplementedError

    @torch.no_grad()
    def start(self, observation: Observation) -> None:
        """Read the instructions. Raises DataError: there aren't any."""
        if not observation.instructions:
            raise DataError("a policy has to be told what to do, and this environment gives no instructions")
        with torch.autocast("cpu", enabled=False):  # a policy is the same wherever it acts
            self._said = self.network.read(numbered(observation.instructions))
        self._before: Tensor | None = None

    @torch.no_grad()
    def act(self, observation: Observation) -> Tensor:
        """The next action. Raises DataError: the environment shows no frames."""
        if observation.frames is None:
            raise DataError("a policy looks at frames, and this environment shows none; decode its latents")
        shown = pictures(observation.frames[:, -2:])
        if shown.shape[1] == 1:  # nothing was seen before the very first frame
            shown = torch.cat([shown if self._before is None else self._before, shown], 1)
        self._before = shown[:, -1:]
        with torch.autocast("cpu", enabled=False):
            numbers, _ = self.network(shown[:, 2 - self.network.config.frames :], self._said)
        action = self.decide(numbers)
        return action.to(observation.frames.device)

    def fork(self, futures: int) -> Self:
        forked = copy.copy(self)
        for name in self.memory:
            if (rows := getattr(self, name)) is not None:
                setattr(forked, name, rows[np.arange(len(rows)).repeat(futures)])
        return forked


def pictures(frames: Tensor) -> Tensor:
    """(B, T, H, W, 3) -> (B, T, 3, SIDE, SIDE) on the CPU."""
    x = rearrange(frames.detach().float().cpu().clamp(0, 1), "B T H W c -> (B T) c H W")
    if x.shape[2:] != (SIDE, SIDE):
        x = F.interpolate(x, (SIDE, SIDE), mode="area" if x.shape[2] > SIDE else "bilinear")
    return rearrange(x, "(B T) c H W -> B T c H W", B=len(frames))
