"""The one loop: an actor in an environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.envs.base import Environment, State
from rslwm.types import DataError


@dataclass(frozen=True)
class Trajectory:
    """What B places showed in F steps.

    ``seen`` is one observation of the F frames after the start: its ``actions`` (B, F, A) led to them, and its
    ``state`` is that of the end.
    """

    start: Observation
    seen: Observation


def live(actor: Actor, environment: Environment[State], state: State) -> Iterator[Observation]:
    """What is seen at the start and after every action, without end.

    Raises:
        DataError: the actor's actions don't mean what the environment takes.
    """
    if actor.spec is not None and actor.spec != environment.spec:
        environment.spec.require(actor.spec, "the environment", "the actor")
        raise DataError(
            "the actor's actions are normalised by other bounds than the environment's: "
            f"{actor.spec.low} to {actor.spec.high} against {environment.spec.low} to {environment.spec.high}"
        )
    observation = environment.reset(state)
    yield observation
    actor.start(observation)
    while True:
        action = actor.act(observation)
        observation = environment.step(action, actor.following())
        yield observation


def play(actor: Actor, environment: Environment[State], state: State, steps: int) -> Trajectory:
    """Let the actor act so many times, from this state on; raises what :func:`live` raises."""
    observations = live(actor, environment, state)
    start = next(observations)
    seen, end = [], start
    for end in islice(observations, steps):
        seen.append(replace(end, state=None))  # the states of all steps would fill the memory
    return Trajectory(start, replace(_joined(seen), state=end.state))


def _joined(observations: Sequence[Observation]) -> Observation:
    """Observations after each other as one of all their frames."""

    def joined(name: str) -> Tensor | None:
        parts = [getattr(one, name) for one in observations]
        return None if parts[0] is None else torch.cat(parts, 1)

    truth = {name: torch.cat([one.truth[name] for one in observations], 1) for name in observations[0].truth}
    actions = torch.cat([one.actions for one in observations], 1)
    return Observation(actions, joined("latents"), joined("frames"), truth, joined("success"))
