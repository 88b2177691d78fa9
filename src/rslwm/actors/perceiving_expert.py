"""The scripted expert with eyes: it acts on a table that a network reads off the picture."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.actors.policy import FRAME_SKIP, SPEC, Policy
from rslwm.sim.sight import WIDTH


class PerceivingExpert(Policy):
    """The network's numbers are facts about the table (:data:`rslwm.sim.sight.FACTS`); what follows from them, the
    expert knows. How well it does is how well it sees."""

    out = WIDTH

    @staticmethod
    def loss(out: Tensor, actions: Tensor, facts: Tensor) -> Tensor:
        return F.smooth_l1_loss(out, facts, beta=0.05)

    def decide(self, out: Tensor) -> Tensor:
        from rslwm.sim.experts import expert_action
        from rslwm.sim.sight import as_seen

        actions = [expert_action(*as_seen(numbers), FRAME_SKIP) for numbers in out.double().numpy()]
        return torch.from_numpy(SPEC.normalise(np.stack(actions))).clamp(-1, 1)
