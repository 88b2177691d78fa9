"""The scripted expert with eyes: it acts on a table that a network reads off the picture."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.actors.policy import FRAME_SKIP, SPEC, Policy
from rslwm.sim.sight import METRES, WIDTH, where

_LEAST = 0.15  # weight of what is seen now against what was seen before, from when there is enough of that
_LINE = np.array([1.155, 0.0, 0.805]) / np.hypot(1.155, 0.805)  # from the middle of the table to the front camera
_AWAY = np.outer(_LINE, _LINE)  # what of a vector goes that way


class PerceivingExpert(Policy):
    """The network's numbers are facts about the table (:data:`rslwm.sim.sight.FACTS`); what follows from them, the
    expert knows. How well it does is how well it sees.

    One camera hardly tells how far away the hand is. But the hand goes where it is sent, so in this direction what
    earlier frames showed, moved by what was done since, is averaged with what is seen now; so is where the goal is.
    """

    out = WIDTH
    memory = (*Policy.memory, "_gripper", "_goal")

    @staticmethod
    def loss(out: Tensor, actions: Tensor, facts: Tensor) -> Tensor:
        return F.smooth_l1_loss(out, facts, beta=0.05)

    def start(self, observation: Observation) -> None:
        super().start(observation)
        self._looks, self._gripper, self._goal = 0, np.empty(0), np.empty(0)

    def decide(self, out: Tensor) -> Tensor:
        from rslwm.sim.experts import expert_action
        from rslwm.sim.sight import as_seen

        known = self._remembered(out.double().numpy())
        actions = np.stack([expert_action(*as_seen(numbers), FRAME_SKIP) for numbers in known])
        self._gripper = self._gripper + actions[:, :3] / METRES
        return torch.from_numpy(SPEC.normalise(actions)).clamp(-1, 1)

    def _remembered(self, seen: np.ndarray) -> np.ndarray:
        """Facts (B, WIDTH) with the places of gripper and goal as all frames since the start tell them."""
        gripper, goal = seen[:, where("gripper")], seen[:, where("goal")]
        if self._looks:
            weight = max(1 / (self._looks + 1), _LEAST)
            gripper = gripper + (1 - weight) * (self._gripper - gripper) @ _AWAY
            goal = goal + (1 - weight) * (self._goal - goal)
        self._looks, self._gripper, self._goal = self._looks + 1, gripper, goal
        known = seen.copy()
        known[:, where("gripper")], known[:, where("goal")] = gripper, goal
        return known
