"""Actions that were recorded, or are given for another reason, whatever is seen."""

from __future__ import annotations

from torch import Tensor

from rslwm.actors.base import ACTORS, Actor, Observation


@ACTORS.register("recorded")
class Recorded(Actor):
    """Plays the actions (B, F, A), normalised, one after the other."""

    def __init__(self, actions: Tensor) -> None:
        self.actions = actions
        self._played = 0

    def start(self, observation: Observation) -> None:
        self._played = 0

    def act(self, observation: Observation) -> Tensor:
        """The next action. Raises :class:`IndexError` after the last."""
        self._played += 1
        return self.actions[:, self._played - 1]

    def following(self) -> Tensor | None:
        return self.actions[:, self._played] if self._played < self.actions.shape[1] else None
