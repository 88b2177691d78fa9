"""A policy that thinks before it acts: of several continuations that it imagines, it begins the best one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.compute import generator
from rslwm.latents.views import to_bytes
from rslwm.serialisation import ConfigError
from rslwm.types import ActionSpec, DataError

Score: TypeAlias = Callable[[Sequence[Observation]], Tensor]
"""How good (N,) what N places showed is, the more the better: the start, then what every action led to."""


class Forkable(Protocol):
    """What is asked of a world to imagine in; every :class:`rslwm.envs.base.Environment` has it."""

    @property
    def spec(self) -> ActionSpec: ...

    def reset(self, state: Any) -> Observation: ...

    def step(self, actions: Tensor, following: Tensor | None = None) -> Observation: ...

    def fork(self, state: Any, candidates: int) -> Any: ...


@dataclass(frozen=True)
class BestOfConfig:
    """How a policy thinks."""

    candidates: int = 8
    """Continuations that are imagined of each place; the first is the policy as it is."""
    horizon: int = 8
    """Actions of each of them."""
    execute: int = 1
    """Actions that are done before it thinks again."""
    noise: float = 0.3
    """Standard deviation of what is added to the policy's actions in the others, where the bounds are at -1 and 1."""
    persistence: float = 0.9
    """How much of an action's noise is that of the action before, from 0 to 1: a policy errs in the same way for long,
    and what is drawn anew for every action averages out."""
    history: int = 1
    """Last frames that ``begin`` is shown."""
    seed: int = 0
    """Of the noise."""


def _own(seen: Observation) -> Any:
    return seen.state


@dataclass(eq=False)
class BestOf(Actor):
    """Lets a policy go on in a world, once as it is and several times with noise on its actions, and does, on top of
    what the policy wants by then, the noise of the continuation whose score is the highest: none, where none is better
    than the policy alone.

    Its world must not be the very object that it acts in, which imagining would move.

    Raises:
        ConfigError: no candidate, more actions to be done than are imagined, or a persistence outside its range.
        DataError: the policy's actions don't mean what the world takes.
    """

    policy: Actor
    """One that can be forked."""
    world: Forkable
    score: Score
    config: BestOfConfig = field(default_factory=BestOfConfig)
    begin: Callable[[Observation], Any] = _own
    """Where the world stands after the last frames that were seen and the actions between them; the state of what is
    seen by default, ``world.after`` of a world model."""

    def __post_init__(self) -> None:
        config = self.config
        if not 0 <= config.persistence <= 1:
            raise ConfigError(f"best_of: persistence is {config.persistence}; choose from 0 to 1")
        if config.candidates < 1 or not 0 < config.execute <= config.horizon:
            given = f"candidates {config.candidates}, execute {config.execute}, horizon {config.horizon}"
            raise ConfigError(f"best_of: {given}; choose at least 1, and execute from 1 to the horizon")
        self.spec = self.policy.spec
        if self.spec is not None and self.spec != self.world.spec:
            self.world.spec.require(self.spec, "the world", "the policy")
            raise DataError("best_of: the policy's actions are normalised by other bounds than the world's")

    def start(self, observation: Observation) -> None:
        self.policy.start(observation)
        self._draw, self._done = generator(self.config.seed, "best of"), 0
        self._seen: Observation | None = None

    def act(self, observation: Observation) -> Tensor:
        self._seen, wanted = self._remembered(observation), self.policy.act(observation)
        if self._done % self.config.execute == 0:
            self._noise = self._best(self._seen, wanted)
        noise = self._noise[:, self._done % self.config.execute].to(wanted)
        self._done += 1
        return (wanted + noise).clamp(-1, 1)

    def _remembered(self, now: Observation) -> Observation:
        """What is seen, with the last frames and the actions between them."""
        if now.frames is None:
            return now
        frames, actions, before = now.frames, now.actions, self._seen
        if before is not None and before.frames is not None:
            frames, actions = torch.cat([before.frames, frames], 1), torch.cat([before.actions, actions], 1)
        frames = frames[:, -self.config.history :]
        return replace(now, frames=frames, actions=actions[:, actions.shape[1] - frames.shape[1] + 1 :])

    def _best(self, known: Observation, wanted: Tensor) -> Tensor:
        """The noise (B, F, A) of the best continuation, of which these actions (B, A) and theirs are the first."""
        config, (places, dims) = self.config, wanted.shape
        shape = (places, config.candidates, config.horizon, dims)
        noise = config.noise * torch.randn(shape, generator=self._draw)
        kept = config.persistence
        for step in range(1, config.horizon):
            noise[:, :, step] = kept * noise[:, :, step - 1] + (1 - kept**2) ** 0.5 * noise[:, :, step]
        noise[:, 0] = 0
        added = noise.flatten(0, 1).to(wanted)
        policy = self.policy.fork(config.candidates)
        seen = [self.world.reset(self.world.fork(self._entered(known), config.candidates))]
        intended = wanted.repeat_interleave(config.candidates, 0)
        for step in range(config.horizon):
            if step:
                intended = policy.act(seen[-1])
            seen.append(self.world.step((intended + added[:, step].to(intended)).clamp(-1, 1)))
        scores = torch.as_tensor(self.score(seen), dtype=torch.float64).cpu()
        if scores.shape != (len(added),):
            raise DataError(f"score: {tuple(scores.shape)} for {len(added)} continuations; it must give a number each")
        best = scores.nan_to_num(nan=-torch.inf).unflatten(0, (places, -1)).argmax(1)
        return noise[torch.arange(places), best]

    def _entered(self, known: Observation) -> Any:
        """The state to imagine from. The world goes there first: only then can a world model's be forked."""
        return self.world.reset(self.begin(known)).state


def judged(judge: Callable[[np.ndarray, tuple[str, ...]], Any]) -> Score:
    """The score of a judge of frames (N, T, H, W, 3) uint8 and instructions, which answers with (N,)."""

    def score(seen: Sequence[Observation]) -> Tensor:
        shown = [one.frames for one in seen if one.frames is not None]
        if not shown:
            raise DataError("a judge looks at frames, and the world shows none; decode its latents")
        frames = to_bytes(torch.cat(shown, 1)).numpy()
        return torch.as_tensor(np.asarray(judge(frames, seen[-1].instructions), float))

    return score
