"""Whatever acts is an actor: it is shown what B places look like and says what is done there next."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

from rslwm.registry import Registry
from rslwm.types import ActionSpec


@dataclass(frozen=True)
class Observation:
    """What B places show: T frames before the first action, then one frame after each.

    What an environment doesn't have is None or empty. Actions are normalised by its spec, the bounds at -1 and 1.
    """

    actions: Tensor
    """Those before the first action lie between the frames, (B, T-1, A); later ones led to the frames, (B, T, A)."""
    latents: Tensor | None = None
    """(B, T, h, w, C)"""
    frames: Tensor | None = None
    """(B, T, H, W, 3) in [0, 1]; several cameras lie side by side."""
    truth: dict[str, Tensor] = field(default_factory=dict)
    """What is true by name, (B, T, n), as recorded episodes hold it in their states."""
    success: Tensor | None = None
    """(B, T) bool, whether the task is done"""
    instructions: tuple[str, ...] = ()
    """What is to be done, of every place; empty where nobody says."""
    state: Any = None
    """Where the environment stands; it goes on from there when reset to it."""


class Actor(ABC):
    """Acts in B places at once."""

    spec: ActionSpec | None = None
    """What its actions mean, where that is its own to say; an environment of another spec refuses it."""

    def start(self, observation: Observation) -> None:  # noqa: B027
        """An episode begins with this, and the first :meth:`act` is shown it again: forget the one before."""

    @abstractmethod
    def act(self, observation: Observation) -> Tensor:
        """The action (B, A), normalised, that follows on what was seen last."""

    def following(self) -> Tensor | None:
        """The action (B, A) after the one given last, where it is settled whatever will be seen. A world model of
        outgoing alignment looks at it."""
        return None

    def fork(self, futures: int) -> Self:
        """One that acts in K futures of every place, place b being those from b * K on, and remembers of each what this
        one does. Raises NotImplementedError: it doesn't say what it remembers."""
        raise NotImplementedError(f"{type(self).__name__} can't be forked; give it a fork(futures)")


def _load_builtin() -> None:
    for module in ("blind", "planner", "inverse", "expert", "remote"):
        importlib.import_module(f"rslwm.actors.{module}")


ACTORS: Registry[type[Actor]] = Registry("actor", "rslwm.actors", _load_builtin)
