"""Rollouts as pictures: what a space shows of the future, beside what a camera saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rslwm.evals.evaluation import Evaluation
from rslwm.evals.rollouts import Rollouts, RolloutsConfig
from rslwm.types import Role

STILL = "hold the last context frame still, encoded and decoded"
DECODED = "encode and decode the true frames"
CLIPS = 8
"""Decoded at a time; bounds the memory and doesn't change the result."""


@dataclass(frozen=True)
class Shown:
    """Clips of N held-out windows as frames (N, 1+F, H, V W, 3) in [0, 1]: the last one of the context, then the
    future.

    ``true`` are the recorded ones. ``seen`` is what a space shows by role: its rollout ("value"), the last context
    frame held still ("floor") and the true future ("ceiling"), all encoded and decoded.
    """

    windows: np.ndarray
    true: Tensor
    seen: dict[Role, Tensor]

    def __getitem__(self, which: slice) -> Shown:
        return Shown(self.windows[which], self.true[which], {role: x[which] for role, x in self.seen.items()})


def shown(evaluation: Evaluation, rollouts: Rollouts) -> Iterator[Shown]:
    """The rollouts decoded, some clips at a time."""
    context, future = rollouts.context.shape[1], rollouts.future
    for which in torch.arange(len(rollouts.windows)).split(CLIPS):
        windows = rollouts.windows[which.numpy()]
        latents = torch.cat([rollouts.context[which, -1:], rollouts.generated[which], rollouts.true[which]], 1)
        present, generated, ceiling = evaluation.decode(latents).split([1, future, future], 1)
        seen: dict[Role, Tensor] = {
            "value": torch.cat([present, generated], 1),
            "floor": present.expand(-1, 1 + future, -1, -1, -1),
            "ceiling": torch.cat([present, ceiling], 1),
        }
        yield Shown(windows, evaluation.pixels(windows, context + future)[:, context - 1 :], seen)


def decoded_frames(rollouts: RolloutsConfig) -> float:
    """How many frames :func:`shown` decodes."""
    return rollouts.clips * (1 + 2 * rollouts.future)
