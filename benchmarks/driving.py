"""Whether hours of driving leak memory: visitors who come, drive at random and go, and what the server holds."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from rslwm.bench.benchmark import MB
from rslwm.bench.measure import resident
from rslwm.bench.play import connected
from rslwm.compute import ComputeConfig
from rslwm.files import write_whole
from rslwm.play.messages import unpacked
from rslwm.play.playground import PlayConfig, Playground, open_playground, resolve
from rslwm.play.server import serving


@dataclass
class Driving:
    """Let visitors drive at random, one after the other, each with worlds of their own: steps, undo, forks, other
    beginnings, films. Prints the process's resident memory after every visit.

    For instance:
      python -m benchmarks.driving --minutes 30 --out runs/driving.json
    """

    checkpoints: tyro.conf.Positional[list[str]] = field(default_factory=list)
    """World models; all shipped ones without any."""
    minutes: float = 30
    visit: int = 60
    """Things that a visitor does."""
    out: Path | None = None
    """A JSON file to write."""

    def run(self) -> None:
        torch.set_num_threads(1)
        ground = open_playground(resolve(self.checkpoints, None), True, PlayConfig(), ComputeConfig())
        began, held, frames, draw = time.monotonic(), list[tuple[float, float]](), 0, np.random.default_rng(0)
        with serving(ground) as (where, _):
            while time.monotonic() - began < 60 * self.minutes:
                frames += drive(where, ground, self.visit, draw)
                held.append(((time.monotonic() - began) / 60, resident("VmRSS") / MB))
                print(f"{held[-1][0]:5.1f} min, visit {len(held)}, {frames} frames: {held[-1][1]:.1f} MB", flush=True)
        quarter = max(1, len(held) // 4)
        first, last = (np.median([size for _, size in part]) for part in (held[:quarter], held[-quarter:]))
        print(f"median of the first quarter {first:.1f} MB, of the last {last:.1f} MB; {frames} frames")
        if self.out:
            found = {"frames": frames, "minutes_and_mb": held, "first_quarter_mb": first, "last_quarter_mb": last}
            write_whole(self.out, json.dumps(found, indent=1) + "\n")


def drive(where: str, ground: Playground, count: int, draw: np.random.Generator) -> int:
    """One visit; returns how many frames it saw."""
    with connected(where) as connection:
        nodes = 1
        for _ in range(count):
            chance = draw.random()
            if chance < 0.03:
                family = str(draw.choice(ground.beginnings.families))
                _ask(connection, "begin", beginning={"seed": int(draw.integers(1000)), "family": family})
                nodes = 1
            elif chance < 0.1:
                _ask(connection, "undo")
            elif chance < 0.17:
                _ask(connection, "go", number=int(draw.integers(nodes)))
            elif chance < 0.19:
                _ask(connection, "save", kind="mp4")
            else:
                _ask(connection, "step", action=draw.uniform(-1, 1, ground.spec.dims).tolist())
                nodes += 1
    return count


def _ask(connection: Any, do: str, **more: Any) -> None:
    connection.send(json.dumps({"do": do, "id": 1, **more}))
    head, _ = unpacked(connection.recv(timeout=600))
    if head["type"] == "error":
        raise RuntimeError(f"{do} {more}: {head['text']}")


if __name__ == "__main__":
    tyro.cli(Driving).run()
