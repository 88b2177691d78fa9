"""How fast worlds are driven: frames a second of a session, and how long a key takes to become a frame."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.table import Table

from rslwm.bench.benchmark import Benchmark, cells, empty_table
from rslwm.bench.measure import Case, measure
from rslwm.model.sampler import SamplingConfig
from rslwm.play.messages import unpacked
from rslwm.play.playground import PlayConfig, Playground, open_playground, resolve
from rslwm.play.server import needs, serving
from rslwm.play.session import Session
from rslwm.serialisation import ConfigError


@dataclass
class Play(Benchmark):
    """Measure how fast worlds are driven by hand: one space, one beside the truth, and many; and through a websocket
    how long it takes from a key to its frame.

    For instance:
      rslwm bench play --run runs/demo
      rslwm bench play small-vae@tabletop --steps 10 --out runs/bench
    """

    checkpoints: tyro.conf.Positional[list[str]] = field(default_factory=list)
    """Folders of world models that were trained in the simulator."""
    of_run: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Without folders: all world models of this run."""
    panes: int = 6
    """How many spaces many are. Where there are fewer, some are shown several times."""
    actions: int = 24
    """How many actions a timed drive has."""
    keys: int = 100
    """How many keys are pressed through the websocket."""
    threads: int = 1
    """How many CPU threads compute. 0 is one a core; small models are slower on more than one."""
    steps: int = 4
    """How many denoising steps generate a frame."""

    def grounds(self) -> dict[str, Playground]:
        """What is driven."""
        for name in ("panes", "actions", "keys"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; at least 1 can be timed")
        config = PlayConfig(sampling=SamplingConfig(steps=self.steps))
        paths = resolve(self.checkpoints, self.of_run)[: self.panes]
        ground = open_playground(paths, True, config, self.compute)
        truth, *spaces = ground.panes
        many = [replace(spaces[i % len(spaces)], name=f"{i + 1}") for i in range(self.panes)]
        return {
            "one space": replace(ground, panes=(spaces[0],)),
            "one space and the truth": replace(ground, panes=(truth, spaces[0])),
            f"{self.panes} spaces ({len(spaces)} different) and the truth": replace(ground, panes=(truth, *many)),
        }

    def measure(self, folder: Path) -> tuple[Table, dict[str, Any]]:
        grounds = self.grounds()
        found = measure([self.case(name, ground) for name, ground in grounds.items()], self.rounds)
        lags = {name: self.lags(ground) for name, ground in grounds.items()}
        shown = empty_table("range", "key to frame, median", "p95")
        for one, values in zip(found, lags.values(), strict=True):
            spread = f"{min(one.rates):.4g} to {max(one.rates):.4g}"
            shown.add_row(*cells(one), spread, *(f"{1000 * np.quantile(values, q):.0f} ms" for q in (0.5, 0.95)))
        return shown, {"measurements": [one.to_dict() for one in found], "key_to_frame_seconds": lags}

    def case(self, name: str, ground: Playground) -> Case:
        """A drive without a server."""
        session, drawn = Session(ground), _drawn(ground, self.actions)

        def drive() -> None:
            for action in drawn:
                session.step(action)

        return Case(name, drive, self.actions, "frames", before=lambda: session.go(0))

    def lags(self, ground: Playground) -> list[float]:
        """Seconds from each key to its frame, one after the other."""
        found = []
        with visited(ground) as connection:
            for action in _drawn(ground, self.keys):
                began = time.perf_counter()
                connection.send(json.dumps({"do": "step", "action": action.tolist(), "id": 1}))
                head, pictures = unpacked(connection.recv())
                found.append(time.perf_counter() - began)
                if head["type"] != "frames" or not pictures:
                    raise ConfigError(f"bench play: the server answered {head}")
        return found[1:] or found  # the first one warms up


def _drawn(ground: Playground, count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, ground.spec.dims))


@contextmanager
def visited(ground: Playground) -> Iterator[Any]:
    """A connection to a server of its own, greeted already."""
    with serving(ground) as (where, _), connected(where) as one:
        yield one


@contextmanager
def connected(where: str) -> Iterator[Any]:
    """A visitor of a server at ``host:port``, greeted already."""
    connect = needs("websockets.sync.client").connect
    with connect(f"ws://{where}/drive", origin=f"http://{where}", compression=None) as one:
        one.send("{}")
        for _ in ("hello", "frames"):
            one.recv()
        yield one
