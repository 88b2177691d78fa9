"""Are things where they should be? What the true frames show at the gripper and the objects, found again or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from rslwm.evals.aggregates import MEAN
from rslwm.evals.base import METRICS, ROLLOUTS, Load, Metric, MetricInfo, Need, NotAvailable
from rslwm.evals.decoded import DECODED, STILL, decoded_frames, shown
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.images import shrunk
from rslwm.evals.readout import StateTargets
from rslwm.evals.rollouts import Rollouts, RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.evals.truth import Recording, Truth
from rslwm.tensors import read_weights, write_tensors
from rslwm.types import Progress, silent

PCK = MetricInfo(
    name="pck",
    axis="fidelity",
    question="Are things where they should be?",
    rung=2,
    higher_is_better=True,
    unit="1",
    aggregate=MEAN,
    floor=STILL,
    ceiling=DECODED,
    description="Share of what has moved, of gripper and objects, that is found at most 3 px (of 64) from its true "
    "place, by what the true frame shows there.",
)
ERROR = replace(
    PCK,
    name="keypoint_error",
    scored=False,
    higher_is_better=False,
    unit="px",
    description="How far from its true place that is found, in pixels of 64 a side; at most as far as is searched.",
)
STAYED = replace(
    PCK,
    name="pck_still",
    scored=False,
    description="The same share of what hasn't moved, and should be where it was.",
)
FILE = "cameras.safetensors"


@dataclass(frozen=True)
class CamerasRecording(Recording[dict[int, Tensor]]):
    """Where the cameras stand in each held-out episode: it opens as pinhole matrices (V, 3, 4) by episode, see
    :meth:`rslwm.envs.base.Environment.cameras`."""

    @property
    def name(self) -> str:
        return "cameras"

    def make(self, truth: Truth, out: Path, progress: Progress = silent) -> None:
        episodes = np.array(truth.corpus.test)
        state = truth.state(np.column_stack([episodes, np.zeros_like(episodes)]))
        try:
            matrices = truth.environment.cameras(state).float()
        except NotImplementedError:
            raise NotAvailable("the simulator doesn't say where its cameras stand") from None
        if not matrices.isfinite().any():
            raise NotAvailable("no camera stands still")
        write_tensors({"episodes": torch.from_numpy(episodes), "matrices": matrices}, out / FILE)

    def open(self, folder: Path) -> dict[int, Tensor]:
        found = read_weights(folder / FILE)
        return dict(zip(found["episodes"].tolist(), found["matrices"], strict=True))


def project(matrices: Tensor, points: Tensor) -> Tensor:
    """Pinhole matrices (..., 3, 4) and points (..., n, 3) in metres -> pixels (..., n, 2), right and down; NaN behind
    the camera."""
    x, y, depth = (points @ matrices[..., :3].mT + matrices[..., None, :, 3]).unbind(-1)
    depth = torch.where(depth > 0, depth, torch.nan)
    return torch.stack([x / depth, y / depth], -1)


def find_again(there: Tensor, images: Tensor, pixels: Tensor, radius: int, reach: int) -> Tensor:
    """How far from pixels (M, 2) images (M, c, H, W) hold what ``there`` (M, c, H, W) hold at these, (M,) in pixels.

    The block of 2 ``radius`` + 1 pixels a side is compared with all at most ``reach`` pixels away in both directions,
    by squared differences; of equal ones the nearest is taken.
    """
    block, around = _around(there, pixels, radius), _around(images, pixels, radius + reach)
    candidates = around.unfold(2, 2 * radius + 1, 1).unfold(3, 2 * radius + 1, 1)
    cost = (candidates - block[:, :, None, None]).square().mean((1, 4, 5))
    steps = torch.arange(-reach, reach + 1)
    away = (steps[:, None].square() + steps.square()).sqrt()
    return away.flatten()[(cost + 1e-7 * away).flatten(1).argmin(1)]


def _around(images: Tensor, pixels: Tensor, radius: int) -> Tensor:
    """The pixels of images (M, c, H, W) at most ``radius`` from (M, 2) in both directions, (M, c, S, S); what lies
    outside is like the edge."""
    height, width = images.shape[2:]
    steps = torch.arange(-radius, radius + 1)
    columns, rows = ((pixels[:, i, None].long() + steps).clamp(0, size - 1) for i, size in ((0, width), (1, height)))
    number = torch.arange(len(images))[:, None, None]
    return rearrange(images.movedim(1, 3)[number, rows[:, :, None], columns[:, None]], "M h w c -> M c h w")


@dataclass(frozen=True)
class KeypointsConfig:
    """What is looked for, and how far; in pixels of frames that are 64 px a side, to which larger ones are averaged."""

    radius: int = 3
    """Pixels around a keypoint by which it is recognised."""
    reach: int = 7
    """Pixels around its true place in which it is looked for."""
    tolerance: float = 3.0
    """Pixels from its true place at which it still counts as found, and from which on it has moved."""


SIDE = 64


@METRICS.register("keypoints")
class Keypoints(Metric):
    """A keypoint is the projected true position of the gripper or of an object, in every view that stands still."""

    infos = (PCK, ERROR, STAYED)
    core = False
    Config = KeypointsConfig
    config: KeypointsConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {ROLLOUTS: ROLLOUTS, "cameras": CamerasRecording()}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(decoded=decoded_frames(rollouts))

    def measure(self, evaluation: Evaluation, rollouts: Rollouts, cameras: dict[int, Tensor]) -> Iterator[Rows]:
        c, views = self.config, evaluation.corpus.views
        for part in shown(evaluation, rollouts):
            true = self._images(part.true, views)
            side = true.shape[-1]
            pixels = self._pixels(evaluation, rollouts, part.windows, cameras) * (side / part.true.shape[2])
            inside = ((pixels >= 0) & (pixels < side)).all(-1)[:, 1:]  # (N, F, V, n)
            moved = (pixels[:, 1:] - pixels[:, :1]).norm(dim=-1) > c.tolerance
            n, t, v, _ = which = inside.nonzero(as_tuple=True)
            at = pixels[:, 1:][which]
            for role, frames in part.seen.items():
                images = self._images(frames, views)
                away = torch.full(inside.shape, torch.nan)
                away[which] = find_again(true[n, t + 1, v], images[n, t + 1, v], at, c.radius, c.reach)
                near = (away <= c.tolerance).float()
                for info, values, of in (
                    (PCK, near, inside & moved), (ERROR, away, inside & moved), (STAYED, near, inside & ~moved)
                ):  # fmt: skip
                    count = of.sum((2, 3))
                    mean = torch.where(of, values, 0).sum((2, 3)) / count
                    window, k = (index.numpy() for index in count.nonzero(as_tuple=True))
                    yield evaluation.rows(info, part.windows[window], mean[count > 0], k=k + 1, role=role)

    def _images(self, frames: Tensor, views: int) -> Tensor:
        """(N, T, H, V W, 3) -> (N, T, V, 3, h, w)."""
        return rearrange(shrunk(frames, SIDE), "(N T) c h (V w) -> N T V c h w", N=len(frames), V=views)

    def _pixels(
        self, evaluation: Evaluation, rollouts: Rollouts, windows: np.ndarray, cameras: dict[int, Tensor]
    ) -> Tensor:
        """Where gripper and objects are in the last frame of the context and after it, (N, 1+F, V, n, 2) in pixels of a
        frame; NaN where one isn't there, or its camera moves."""
        targets, context = StateTargets.of(evaluation.corpus), rollouts.context.shape[1]
        steps = evaluation.corpus.config.frame_skip * np.arange(context - 1, context + rollouts.future)
        frames = np.stack([windows + np.array([0, step]) for step in steps], 1).reshape(-1, 2)
        values, mask = (x.unflatten(0, (len(windows), -1)).unflatten(-1, (-1, 3)) for x in targets.at(frames))
        points = torch.where(mask > 0, values, torch.nan)
        return project(torch.stack([cameras[e] for e in windows[:, 0].tolist()])[:, None], points[:, :, None])
