"""When to stop believing an imagined world: actions that can't be read back from it weren't followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.envs.base import Environment
from rslwm.types import ActionSpec

Read: TypeAlias = Callable[[Tensor], Tensor]
"""Actions (B, A), normalised, read out of pairs of latents (B, 2, h, w, C)."""


def disagreement(read: Tensor, requested: Tensor) -> Tensor:
    """Of actions (..., A), normalised, the root mean square of their differences (...)."""
    return (read - requested).square().mean(-1).sqrt()


@dataclass(frozen=True)
class Watched(Observation):
    """What a trusted world shows beside what it is."""

    disagreement: Tensor | None = None
    """Of the actions read back with those requested, mean since the start: (B, 1), or (B, F) of F steps together."""
    trusted: Tensor | None = None
    """Of the same shape, bool: whether it has stayed below the limit."""


@dataclass(frozen=True)
class Record:
    """Where the world stands, the frame (B, h, w, C) that it shows, and what was found of B places since the start."""

    world: Any
    last: Tensor
    total: Tensor
    steps: int
    trusted: Tensor


@dataclass(eq=False)
class Trusted(Environment[Any]):
    """A world of latents that says of every place how far what it shows is from what was asked of it.

    It begins in any state of the ``world``, or goes on from one of its own. Places aren't stopped, since others go on:
    ``takewhile(lambda seen: seen.trusted.any(), live(actor, world, state))`` ends with the last.

    Args:
        world: whose observations hold latents, such as :class:`rslwm.envs.imagined.Imagined`.
        read: inverse dynamics of one step, such as a trained probe ``InverseProbe(1)``.
        limit: of the mean disagreement, see :func:`rslwm.evals.agreement.limit_for`.
    """

    world: Environment[Any]
    read: Read
    limit: float

    @property
    def spec(self) -> ActionSpec:
        return self.world.spec

    def reset(self, state: Any) -> Observation:
        if isinstance(state, Record):
            return self._seen(self.world.reset(state.world), state)
        shown = self.world.reset(state)
        places = len(shown.actions)
        return self._seen(shown, Record(None, self._frame(shown), torch.zeros(places), 0, torch.ones(places).bool()))

    def step(self, actions: Tensor, following: Tensor | None = None) -> Observation:
        before, shown = self._record, self.world.step(actions, following)
        pair = torch.stack([before.last, self._frame(shown)], 1)
        total = before.total + disagreement(self.read(pair).cpu(), actions.cpu())
        steps = before.steps + 1
        trusted = before.trusted & (total / steps <= self.limit)
        return self._seen(shown, Record(None, pair[:, 1], total, steps, trusted))

    def fork(self, state: Record, candidates: int) -> Record:
        last, total, trusted = (x.repeat_interleave(candidates, 0) for x in (state.last, state.total, state.trusted))
        return Record(self.world.fork(state.world, candidates), last, total, state.steps, trusted)

    @staticmethod
    def _frame(shown: Observation) -> Tensor:
        assert shown.latents is not None, "a world is trusted by the latents that it shows"
        return shown.latents[:, -1]

    def _seen(self, shown: Observation, record: Record) -> Watched:
        self._record = replace(record, world=shown.state)
        mean = record.total / max(record.steps, 1)
        known = vars(shown) | {"state": self._record}
        return Watched(**known, disagreement=mean[:, None], trusted=record.trusted[:, None])
