"""One moment, many futures: what the true world does under other actions than the recorded ones, once a study."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.blind import Recorded
from rslwm.compute import generator
from rslwm.envs.base import Trajectory, play
from rslwm.evals.truth import Recording, Truth
from rslwm.evals.windows import strangers
from rslwm.latents.views import to_bytes
from rslwm.plan.base import stand_still
from rslwm.tensors import noted, opened, read_weights, write_tensors
from rslwm.types import ActionSpec, Progress, silent

RECORDED, STILL = 0, 1
"""The places of the recorded actions and of the null action among a moment's branches."""
VISIBLE = 8
"""Steps of 255 by which some pixel must differ for two frames to show different things; the renderer makes no noise."""
FILE = "branches.safetensors"
_OF_A_MOMENT = ("frames", "gripper", "objects", "present")
_TRUTH = ("gripper_position", "object_position", "object_present")
_TENSORS = ("past", "actions", "frames", "gripper", "objects", "present")


@dataclass(frozen=True)
class Branches:
    """What really followed on N held-out moments, each played on in many branches and in a few near misses.

    Branch 0 is what was recorded, 1 keeps the robot where it is, the others are recorded sequences of other episodes.
    Then come the near misses of branch 0, one of each of the ``sizes``; in the shapes below K counts them, too.

    ``windows`` (N, 2) hold the context and the future, ``past`` (N, T-1, A) the actions of the context, ``actions``
    (N, K, F, A) all those after it, normalised by the world's spec. ``frames`` are (N, K, F, H, V W, 3) uint8;
    ``gripper`` (N, K, F, 3) and ``objects`` (N, K, F, 3n) are in metres, ``present`` (N, K, F, n) says which are there.
    """

    windows: np.ndarray
    past: Tensor
    actions: Tensor
    frames: Tensor
    gripper: Tensor
    objects: Tensor
    present: Tensor
    sizes: tuple[float, ...]

    @property
    def count(self) -> int:
        """The branches without the near misses."""
        return self.actions.shape[1] - len(self.sizes)

    @property
    def context(self) -> int:
        """T, the real frames before the branches part; the last of them shows the moment itself."""
        return self.past.shape[1] + 1

    @property
    def positions(self) -> Tensor:
        """Of the gripper, then of every object, (N, K, F, 1 + n, 3) in centimetres."""
        return 100 * torch.cat([self.gripper, self.objects], -1).unflatten(-1, (-1, 3))

    @property
    def there(self) -> Tensor:
        """Which of these positions mean something, (N, K, F, 1 + n): 1, or 0 where an object is absent."""
        return torch.cat([torch.ones_like(self.present[..., :1]), self.present], -1)

    def save(self, folder: Path) -> None:
        """Write every number as it is."""
        tensors = {name: getattr(self, name) for name in _TENSORS} | {"windows": torch.from_numpy(self.windows)}
        write_tensors(tensors, folder / FILE, {"sizes": json.dumps(self.sizes)})

    @classmethod
    def load(cls, folder: Path) -> Branches:
        """Inverse of :meth:`save`."""
        with opened(path := folder / FILE) as file:
            sizes, windows = tuple(noted(file, "sizes", path)), file.get_tensor("windows").numpy()
            return cls(windows, **{name: file.get_tensor(name) for name in _TENSORS}, sizes=sizes)


@dataclass(frozen=True)
class BranchRecording(Recording[Branches]):
    """Play held-out moments on in many ways. All branches of a moment have the same course of chance."""

    windows: int
    branches: int
    context: int
    future: int
    sizes: tuple[float, ...]

    @property
    def name(self) -> str:
        return "branches"

    def make(self, truth: Truth, out: Path, progress: Progress = silent) -> None:
        world, frames = truth.environment, self.context + self.future
        windows = truth.windows(frames, self.windows, "branches")
        past, recorded = truth.actions(windows, frames).tensor_split([self.context - 1], 1)
        actions = self.ways(world.spec, windows, past, recorded, truth.seed)
        moments = windows + np.array([0, (self.context - 1) * truth.corpus.config.frame_skip])
        played = list[dict[str, Tensor]]()
        for number, (moment, ways) in enumerate(zip(moments, actions, strict=True)):
            path = out / f"moment-{number:05d}.safetensors"  # of an attempt that was killed, perhaps
            if not path.is_file():
                start = world.fork(truth.state(moment[None]), len(ways))
                fresh = path.with_suffix(".partial")
                write_tensors(_shown(play(Recorded(ways), world, start, self.future)), fresh)
                fresh.replace(path)
            played.append(read_weights(path))
            progress(len(played), len(windows), "moments")
        seen, gripper, objects, present = (torch.stack([one[name] for one in played]) for name in _OF_A_MOMENT)
        Branches(windows, past, actions, seen, gripper, objects, present, self.sizes).save(out)
        for path in out.glob("moment-*.safetensors"):
            path.unlink()

    def open(self, folder: Path) -> Branches:
        return Branches.load(folder)

    def ways(self, spec: ActionSpec, windows: np.ndarray, past: Tensor, recorded: Tensor, seed: int) -> Tensor:
        """The actions (N, K, F, A) of all branches and near misses, of the recorded ones (N, T-1, A) and (N, F, A).

        Near misses are off by their size in one random direction of what moves the robot, the same one in every step
        and for every size, as far as the bounds allow.
        """
        others = recorded[strangers(windows, self.branches - 2, seed)]
        still = stand_still(spec, past, self.future)
        direction = torch.zeros(len(windows), 1, spec.dims)
        drawn = torch.randn(len(windows), 1, len(spec.moving), generator=generator(seed, "near misses"))
        direction[..., spec.moving] = drawn / drawn.norm(dim=-1, keepdim=True)
        near = [(recorded + size * direction).clamp(-1, 1) for size in self.sizes]
        return torch.cat([torch.stack([recorded, still], 1), others, *(way[:, None] for way in near)], 1)


def _shown(played: Trajectory) -> dict[str, Tensor]:
    """What is kept of the branches of a moment."""
    assert played.seen.frames is not None, "the true world shows no frames"
    truth = played.seen.truth
    found = (to_bytes(played.seen.frames), *(truth[name] for name in _TRUTH))
    return dict(zip(_OF_A_MOMENT, found, strict=True))


def told_apart(frames: Tensor) -> Tensor:
    """Which of the branches (N, K, F, H, W, 3) uint8 look, step by step, unlike all of those before that do: (N, K, F)
    bool. Nobody could say which of two that look alike was imagined."""
    told = torch.ones(frames.shape[:3], dtype=torch.bool)
    for branch in range(1, frames.shape[1]):
        for earlier in range(branch):
            told[:, branch] &= ~told[:, earlier] | differ(frames[:, earlier], frames[:, branch])
    return told


def differ(a: Tensor, b: Tensor) -> Tensor:
    """Whether frames (..., H, W, 3) uint8 show different things, (...)."""
    return (a.short() - b.short()).abs().amax((-3, -2, -1)) > VISIBLE
