"""Behaviour cloning: a network from what is seen to what the expert would do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.actors.policy import SPEC, Policy

_GRIPPER = 0.3  # weight of the gripper's loss


class BehaviourCloning(Policy):
    """The network's numbers are the action: deltas, and how sure it is that the gripper should be open."""

    out = SPEC.dims

    @staticmethod
    def loss(out: Tensor, actions: Tensor, facts: Tensor) -> Tensor:
        moves = F.smooth_l1_loss(out[:, :-1], actions[:, :-1], beta=0.1)
        return moves + _GRIPPER * F.binary_cross_entropy_with_logits(out[:, -1], (actions[:, -1] > 0).float())

    def decide(self, out: Tensor) -> Tensor:
        return torch.cat([out[:, :-1].clamp(-1, 1), torch.where(out[:, -1:] > 0, 1.0, -1.0)], 1)
