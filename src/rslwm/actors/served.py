"""An actor of ours as a policy at an address, for clients that know nothing of us."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from rslwm.actors.base import Actor, Observation
from rslwm.remote.mapping import Protocol
from rslwm.remote.server import Served, Server
from rslwm.types import ActionSpec, DataError


class ActorPolicy:
    """Shows an actor one place: frames, the instruction and what it did; nothing that only a simulator knows."""

    def __init__(self, factory: Callable[[], Actor], spec: ActionSpec) -> None:
        self.actor, self.spec = factory(), spec
        if self.actor.spec not in (None, spec):
            both = f"{self.actor.spec} of the actor, {spec} of the server"
            raise DataError(f"the action specs differ: {both}. Serve the actor's own")

    def start(self) -> None:
        self._done: torch.Tensor | None = None

    def act(self, picture: np.ndarray, instruction: str) -> np.ndarray:
        """As :meth:`rslwm.remote.server.Policy.act`."""
        frames = torch.from_numpy(picture.astype(np.float32))[None, None] / 255
        done = torch.zeros(1, 0, self.spec.dims) if self._done is None else self._done
        observation = Observation(done, frames=frames, instructions=(instruction,))
        if self._done is None:
            self.actor.start(observation)
        with torch.inference_mode():
            action = self.actor.act(observation).float().cpu()
        self._done = action[:, None]
        return self.spec.denormalise(action[0].numpy())


def serve(
    factory: Callable[[], Actor],
    spec: ActionSpec,
    protocol: Protocol,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str = "",
    images: tuple[str, ...] = (),
    prompt: str = "",
) -> Server:
    """A server, running, of an actor that acts on frames and instructions; port 0 is any free one.

    Actions are sent in the units of ``spec``. Raises ConfigError: others than this machine could connect, and there is
    no token; DataError: the actor's spec is another.
    """
    ActorPolicy(factory, spec)  # what can't be served fails here, not with the first client
    return Server(Served(partial(ActorPolicy, factory, spec), spec, protocol, images, prompt, token), host, port)
