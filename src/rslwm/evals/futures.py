"""True futures of the same state and actions, where the world is random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.blind import Recorded
from rslwm.envs.base import play
from rslwm.evals.base import NotAvailable
from rslwm.evals.truth import Recording, Truth
from rslwm.tensors import read_weights, write_tensors
from rslwm.types import Progress, silent

FILE = "futures.safetensors"
POSITIONS = {"gripper": "gripper_position", "object": "object_position"}
PRESENT = "object_present"


@dataclass(frozen=True)
class Futures:
    """R courses of chance from each of N held-out moments, the last of ``context`` frames.

    ``states[name]`` is (R, N, F, n), the recorded ground truth of a true environment.
    """

    windows: np.ndarray
    states: dict[str, Tensor]


@dataclass(frozen=True)
class FuturesRecording(Recording[Futures]):
    """The recorded actions of held-out windows, played again and again."""

    windows: int
    courses: int
    context: int
    future: int

    @property
    def name(self) -> str:
        return "true futures"

    def make(self, truth: Truth, out: Path, progress: Progress = silent) -> None:
        world = truth.blind
        if not world.random:
            raise NotAvailable("nothing in the recorded world happens by chance: its futures have no spread to hit")
        frames = self.context + self.future
        windows = truth.windows(frames, self.windows, "calibration")
        last = windows + np.array([0, (self.context - 1) * truth.corpus.config.frame_skip])
        start, actions = truth.state(last), truth.actions(windows, frames)[:, self.context - 1 :]
        found: list[dict[str, Tensor]] = []
        for course in range(self.courses):
            progress(course, self.courses, "courses of chance")
            seen = play(Recorded(actions), world, world.reseeded(start, course), self.future).seen
            found.append(seen.truth)
        known = [name for name in (*POSITIONS.values(), PRESENT) if name in found[0]]
        states = {name: torch.stack([states[name] for states in found]) for name in known}
        write_tensors({"windows": torch.from_numpy(windows), **states}, out / FILE)

    def open(self, folder: Path) -> Futures:
        states = read_weights(folder / FILE)
        return Futures(states.pop("windows").numpy(), states)
