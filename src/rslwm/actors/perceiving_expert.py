"""The scripted expert with eyes: it acts on a table that a network reads off the picture."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.actors.policy import FRAME_SKIP, SPEC, Policy
from rslwm.sim.sight import METRES, WIDTH, where

_LEAST = 0.15
"""Weight of what is seen now against what was seen before, from when there is enough of that."""


class PerceivingExpert(Policy):
    """The network's numbers are facts about the table (:data:`rslwm.sim.sight.FACTS`); what follows from them, the
    expert knows. How well it does is how well it sees.

    One camera hardly tells how high the hand is from how far away. But the hand goes where it is sent, so what earlier
    frames showed, moved by what was done since, is averaged with what is seen now; so is where the goal is.
    """

    out = WIDTH

    @staticmethod
    def loss(out: Tensor, actions: Tensor, facts: Tensor) -> Tensor:
        return F.smooth_l1_loss(out, facts, beta=0.05)

    def start(self, observation: Observation) -> None:
        super().start(observation)
        self._looks, self._believed = 0, np.zeros((len(observation.instructions), 6))

    def decide(self, out: Tensor) -> Tensor:
        from rslwm.sim.experts import expert_action
        from rslwm.sim.sight import as_seen

        known = self._remembered(out.double().numpy())
        actions = np.stack([expert_action(*as_seen(numbers), FRAME_SKIP) for numbers in known])
        self._believed[:, :3] += actions[:, :3] / METRES
        return torch.from_numpy(SPEC.normalise(actions)).clamp(-1, 1)

    def _remembered(self, seen: np.ndarray) -> np.ndarray:
        """Facts (B, WIDTH) with the places of gripper and goal from all frames since the start."""
        places = np.concatenate([seen[:, where("gripper")], seen[:, where("goal")]], 1)
        before = self._believed if self._looks else places
        self._looks += 1
        self._believed = before + max(1 / self._looks, _LEAST) * (places - before)
        known = seen.copy()
        known[:, where("gripper")], known[:, where("goal")] = np.split(self._believed, 2, 1)
        return known
