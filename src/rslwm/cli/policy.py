"""rslwm policy serve, rslwm policy check."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import tyro
from rich.markup import escape

from rslwm.actors.base import ACTORS, Actor
from rslwm.actors.served import serve
from rslwm.cli.output import console
from rslwm.data.conventions import read_spec
from rslwm.remote.adapter import Adapter
from rslwm.remote.mapping import PolicyMapping, Protocol, read, stated
from rslwm.remote.sessions import SESSIONS
from rslwm.remote.vla_eval import told
from rslwm.serialisation import ConfigError
from rslwm.sim.tabletop import SPEC
from rslwm.types import ActionSpec

TOKEN = "RSLWM_TOKEN"


@dataclass
class Serve:
    """Serve an actor as a policy at an address, for any client of the protocol.

    The actor is a name, or path/to/file.py:Name of a class or function that is called without arguments. It is shown
    pictures and an instruction, and its actions are sent in the units of the action spec. Others than this machine may
    connect only with the token in the environment variable RSLWM_TOKEN.

    For instance:
      rslwm policy serve random --protocol openpi --port 8000
      rslwm policy serve my_policy.py:make --protocol act --action-spec arm.yaml
    """

    name: tyro.conf.Positional[str]
    """The actor, or path/to/file.py:Name."""
    protocol: Protocol = "openpi"
    """What it speaks: act (OpenVLA's HTTP), openpi or vla-eval (websockets)."""
    host: str = "127.0.0.1"
    """Where it listens."""
    port: int = 8000
    """Where it listens; 0 is any free port."""
    action_spec: Path | None = None
    """YAML or JSON file with the action spec, if it isn't the actor's own or that of the embedded simulator."""
    images: tuple[str, ...] = ()
    """Keys of the pictures that are its views; those of the protocol by default."""
    prompt: str = ""
    """Key of the instruction; that of the protocol by default."""

    def run(self) -> None:
        factory = ACTORS.get(self.name)
        spec = read_spec(self.action_spec) if self.action_spec else self._spec(factory)
        where = self.host, self.port, os.environ.get(TOKEN, "")
        with serve(lambda: _made(factory, self.name), spec, self.protocol, *where, self.images, self.prompt) as server:
            console().print(f"{escape(self.name)} at {server.address}, {self.protocol}. Ctrl-C stops it.")
            server.wait()

    def _spec(self, factory: type[Actor]) -> ActionSpec:
        return _made(factory, self.name).spec or SPEC


def _made(factory: type[Actor], name: str) -> Actor:
    try:
        return factory()
    except TypeError as error:
        remedy = "Write a function without arguments that returns it, and serve path/to/file.py:function"
        raise ConfigError(f"the actor {name!r} can't be made without arguments: {error}. {remedy}") from None


@dataclass
class Check:
    """Ask a policy at an address one question, and say what it answers and what that is taken for.

    It is shown one grey picture. Without a mapping file, a websocket server is asked what it says of itself.

    For instance:
      rslwm policy check policy.yaml
      rslwm policy check ws://127.0.0.1:8000 --protocol vla-eval
    """

    policy: tyro.conf.Positional[str]
    """A mapping file, or an address."""
    protocol: Protocol = "openpi"
    """Of an address; a mapping file has its own."""
    action_spec: Path | None = None
    """YAML or JSON file with the action spec of the world; that of the embedded simulator by default."""
    frame_skip: int = 1
    """Of the world; what is done between two of its frames."""
    instruction: str = "push the red cube"
    """What the policy is told."""

    def run(self) -> None:
        screen = console()
        mapped = self.policy.endswith((".yaml", ".yml"))
        mapping = read(Path(self.policy)) if mapped else PolicyMapping(self.protocol, self.policy)
        spec = (read_spec(self.action_spec) if self.action_spec else SPEC).composed(self.frame_skip)
        session = SESSIONS[mapping.protocol](mapping)
        try:
            began = time.perf_counter()
            says = session.begin(self.instruction)
            screen.print(f"connected to {escape(mapping.address)} in {time.perf_counter() - began:.2f} s")
            screen.print(f"it says of itself: {escape(str(says or 'nothing'))}")
            resolved = mapping.resolved(spec, told(says) if mapping.protocol == "vla-eval" else None)
            adapter = Adapter(resolved, spec)
            grey = np.full((128, 128 * (1 + max(resolved.observation.images.values())), 3), 0.5, np.float32)
            began = time.perf_counter()
            reply = session.ask(adapter.observation(grey, self.instruction, {}))
        finally:
            session.close()
        screen.print(f"it answers in {time.perf_counter() - began:.2f} s, shape {reply.shape}: {np.round(reply, 4)}")
        for part in fields(resolved):
            if part.name in ("observation", "actions"):
                screen.print(f"{part.name}: {escape(str(stated(getattr(resolved, part.name))))}")
        actions = adapter.actions(reply)
        screen.print(f"taken for, in units: {dict(zip(spec.names, np.round(actions[0], 4).tolist(), strict=True))}")
        if len(actions) >= adapter.steps:
            action, outside = adapter.composed(actions[: adapter.steps])
            screen.print(f"{adapter.steps} of them, normalised: {np.round(action, 3)}; {outside} outside the bounds")
