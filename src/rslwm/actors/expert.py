"""The simulator's scripted expert, at its best or as it acts in recordings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import ACTORS, Actor, Observation
from rslwm.sim.config import SimConfig
from rslwm.sim.scene import TRANSLATION_BOUND
from rslwm.types import ActionSpec


@ACTORS.register("expert")
class Expert(Actor):
    """Does what brings the task forward in the true state; it keeps no memory, so it takes over from anywhere.

    Args:
        spec: of the tabletop that it acts on; its bounds tell how many control steps an action is made of.
    """

    def __init__(self, spec: ActionSpec) -> None:
        self.spec: ActionSpec = spec
        self.steps = max(1, round(spec.high[0] / TRANSLATION_BOUND))

    def act(self, observation: Observation) -> Tensor:
        from rslwm.sim.experts import expert_action  # a machine that plays in world models needn't have a renderer

        return self._normalised([expert_action(place.task, place.state, self.steps) for place in observation.state])

    def fork(self, futures: int) -> Self:
        return copy.copy(self)

    def _normalised(self, actions: Sequence[np.ndarray]) -> Tensor:
        """(A,) in units, of every place -> (B, A) float64: an action that is rounded leads elsewhere in the end."""
        low, high = np.array(self.spec.low), np.array(self.spec.high)
        return torch.from_numpy(2 * (np.stack(actions) - low) / (high - low) - 1)


@ACTORS.register("demonstrator")
class Demonstrators(Expert):
    """The expert as it acts in a recording: it trembles, may misjudge its goal, gives up, and goes on when it is done.

    Its episodes begin where those of the recording do (:func:`rslwm.sim.record.restore` with step 0).
    """

    def __init__(self, spec: ActionSpec, config: SimConfig) -> None:
        super().__init__(spec)
        self.config = config

    def start(self, observation: Observation) -> None:
        from rslwm.sim.record import Demonstrator

        self._who = [Demonstrator(place, self.config) for place in observation.state]

    def act(self, observation: Observation) -> Tensor:
        places = zip(self._who, observation.state, strict=True)
        return self._normalised([who.act(place.state) for who, place in places])

    def fork(self, futures: int) -> Self:
        forked = super().fork(futures)
        forked._who = [copy.deepcopy(who) for who in self._who for _ in range(futures)]
        return forked
