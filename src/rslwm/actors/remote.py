"""A policy at an address as an actor: it sees frames and instructions, and what happens to it stays in its place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import ACTORS, Actor, Observation
from rslwm.plan.base import stand_still
from rslwm.remote.adapter import Adapter
from rslwm.remote.arrays import ProtocolError
from rslwm.remote.mapping import PolicyMapping
from rslwm.remote.sessions import SESSIONS
from rslwm.remote.vla_eval import told
from rslwm.serialisation import ConfigError, to_dict
from rslwm.types import ActionSpec, DataError

log = logging.getLogger(__name__)
T = TypeVar("T")


@ACTORS.register("remote")
class RemotePolicy(Actor):
    """Asks a server what to do, one connection a place, all at once. Shown are the last frame, the instruction, and the
    true states that the mapping names. A place whose server fails is in :attr:`failures` and stands still from then on.

    Args:
        mapping: what the server's words mean.
        spec: of the environment; actions are normalised by it.
        sessions: requests at a time; as many as there are places by default.
        required: whether an episode must not begin where not one place has a connection; otherwise all of them fail.

    Raises:
        ConfigError: the mapping lacks something, or the policy's actions can't be turned into those of ``spec``.
    """

    def __init__(self, mapping: PolicyMapping, spec: ActionSpec, sessions: int = 0, required: bool = True) -> None:
        self.mapping, self.sessions, self.required = mapping, sessions, required
        self.spec: ActionSpec = spec
        self.failures: dict[int, str] = {}
        """What happened in the places that stand still, in this episode."""
        self.resolved = mapping if mapping.protocol == "vla-eval" else mapping.resolved(spec)
        """The mapping with what the server says, from the start on."""
        self._places: list[_Place] = []
        self._pool: ThreadPoolExecutor | None = None

    def start(self, observation: Observation) -> None:
        """Connect anew in every place.

        Raises:
            ConfigError: the server says something else than the mapping, or there are no frames or instructions.
            ProtocolError: not one place has a connection, which is required.
        """
        places = len(observation.actions)
        if observation.frames is None:
            raise ConfigError("a policy at an address sees frames, and the environment shows none; let it decode them")
        if len(observation.instructions) != places:
            raise ConfigError("a policy at an address is told what to do, and the environment has no instructions")
        self.close()
        self.failures, self._steps = {}, 0
        self._pool = ThreadPoolExecutor(self.sessions or places)
        self._places = [_Place(self.mapping, self.spec) for _ in range(places)]
        words = observation.instructions
        resolved = self._everywhere({p: partial(self._places[p].begin, words[p]) for p in range(places)})
        if not resolved and self.required:
            raise ProtocolError(f"no place has a policy: {self.failures[0]}")
        self.resolved = next(iter(resolved.values()), self.resolved)

    def act(self, observation: Observation) -> Tensor:
        """The policy's action, or none where it failed. Raises ConfigError: the mapping names a view or state that the
        environment doesn't show."""
        assert observation.frames is not None
        self._steps += 1
        actions = stand_still(self.spec, observation.actions, 1)[:, 0].float().clone()
        frames = observation.frames[:, -1].float().cpu().numpy()
        named = {*self.mapping.observation.states.values()} & {*observation.truth}
        states = {name: observation.truth[name][:, -1].float().cpu().numpy() for name in sorted(named)}

        asked = {}
        for p in (p for p in range(len(actions)) if p not in self.failures):
            truth = {name: values[p] for name, values in states.items()}
            asked[p] = partial(self._places[p].act, frames[p], observation.instructions[p], truth)
        for p, action in self._everywhere(asked).items():
            actions[p] = torch.from_numpy(action).to(actions)
        return actions

    @property
    def clipped(self) -> list[int]:
        """Of every place how many numbers lay outside the bounds, in this episode."""
        return [place.clipped for place in self._places]

    def record(self) -> dict[str, Any]:
        """The resolved mapping and what went wrong, as plain data."""
        return {"mapping": to_dict(self.resolved), "failures": dict(self.failures), "clipped": self.clipped}

    def close(self) -> None:
        """Leave every server."""
        if self._pool is not None:
            for place in self._places:
                self._pool.submit(place.session.close)  # at once: a server that stalls isn't quick at this either
            self._pool.shutdown()
        self._places, self._pool = [], None

    def _everywhere(self, calls: Mapping[int, Callable[[], T]]) -> dict[int, T]:
        """Do these at once; what failed is noted."""
        assert self._pool is not None, "the actor was never started"
        futures = {p: self._pool.submit(call) for p, call in calls.items()}
        done: dict[int, T] = {}
        for p, future in futures.items():
            try:
                done[p] = future.result()
            except DataError as error:
                self.failures[p] = f"action {self._steps}: {error}"
                log.warning("place %d stands still from action %d on: %s", p, self._steps, error)
                self._pool.submit(self._places[p].session.close)
        return done


class _Place:
    """One connection, and the actions that it has given and that aren't done yet."""

    def __init__(self, mapping: PolicyMapping, spec: ActionSpec) -> None:
        self.mapping, self.spec, self.clipped = mapping, spec, 0
        self.session = SESSIONS[mapping.protocol](mapping)

    def begin(self, instruction: str) -> PolicyMapping:
        says = self.session.begin(instruction)
        resolved = self.mapping.resolved(self.spec, told(says) if self.mapping.protocol == "vla-eval" else None)
        self._adapter, self._waiting = Adapter(resolved, self.spec), list[np.ndarray]()
        return resolved

    def act(self, frame: np.ndarray, instruction: str, truth: dict[str, np.ndarray]) -> np.ndarray:
        """One action (A,) of the world, of as many of the policy's as it takes; where a reply holds fewer, the policy
        is asked again with the same frame, as nothing has happened yet that could be shown."""
        while len(self._waiting) < self._adapter.steps:
            reply = self.session.ask(self._adapter.observation(frame, instruction, truth))
            self._waiting += [*self._adapter.actions(reply)]
        now, self._waiting = np.stack(self._waiting[: self._adapter.steps]), self._waiting[self._adapter.steps :]
        action, outside = self._adapter.composed(now)
        self.clipped += outside
        return action
