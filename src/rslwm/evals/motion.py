"""Frames beyond PSNR and SSIM: at several scales, where something moves, and how it moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.evals.aggregates import MEAN, RATIO, ROOT_RATIO
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo
from rslwm.evals.decoded import DECODED, STILL, Shown, decoded_frames, shown
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.flow import flow
from rslwm.evals.images import agreement, changes, mean_within, moving, ms_ssim, psnr_within, shrunk, ssim_within
from rslwm.evals.rollouts import Rollouts, RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.evals.visual import PSNR, SSIM
from rslwm.types import Role

MS_SSIM = replace(
    SSIM,
    name="ms_ssim",
    scored=False,
    description="Multiscale structural similarity of the decoded rollout to the true frames, luminance; 3 scales at "
    "64 px.",
)
PSNR_MOVING = replace(
    PSNR,
    name="psnr_moving",
    question="Does what moves look right?",
    description="PSNR over the pixels that differ, in the true frames, from the last context frame, and those next to "
    "them.",
)
SSIM_MOVING = replace(
    SSIM,
    name="ssim_moving",
    question=PSNR_MOVING.question,
    description="The map of structural similarity, averaged over the same pixels.",
)
MATCH = MetricInfo(
    name="motion_match",
    axis="fidelity",
    question="Does it move as it should?",
    rung=1,
    higher_is_better=True,
    unit="1",
    aggregate=MEAN,
    floor="nothing moves",
    floor_value=0.0,
    ceiling=DECODED,
    description="How far the change from frame to frame is the true one, 2ab / (a² + b²): 1 if it is the same, 0 if "
    "it is none or elsewhere, below if it is the opposite.",
)
TEMPORAL = replace(
    MATCH,
    name="temporal_error",
    scored=False,
    higher_is_better=False,
    unit="x truth",
    aggregate=ROOT_RATIO,
    floor_value=1.0,
    description="Error of the change from frame to frame over the true change, root mean square. What moves a little "
    "off is worse than what doesn't move.",
)
FLOW = replace(
    MATCH,
    name="flow_error",
    scored=False,
    higher_is_better=False,
    unit="px",
    floor_value=None,
    floor=STILL,
    description="End-point error of the optical flow from frame to frame where the true frames change, in pixels of "
    "the frame.",
)
DEGREE = replace(
    MATCH,
    name="dynamic_degree",
    scored=False,
    unit="x truth",
    aggregate=RATIO,
    description="Mean length of the optical flow over that in the true frames. 1 is right, more is too lively.",
)


@dataclass(frozen=True)
class MotionConfig:
    """What counts as moving, and how far motion is searched."""

    threshold: float = 0.1
    """Change of a pixel's brightest channel from which on it counts as moving."""
    reach: int = 2
    """Pixels around a moving one that count as well."""
    least: float = 0.004
    """Share of a frame that has to move for it to be looked at."""
    flow_side: int = 32
    """Pixels a side at which optical flow is found; larger frames are averaged down to it."""
    flow_reach: int = 6
    """Farthest way from frame to frame that optical flow finds, in these pixels."""
    flow_every: int = 4
    """Optical flow is found in every so many-th clip: it takes longer than all else."""


@METRICS.register("motion")
class Motion(Metric):
    """Where the true frames change too little, only ``ms_ssim`` is measured; that is the same for every space."""

    infos = (MS_SSIM, PSNR_MOVING, SSIM_MOVING, MATCH, TEMPORAL, FLOW, DEGREE)
    core = False
    Config = MotionConfig
    config: MotionConfig

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(decoded=decoded_frames(rollouts))

    def measure(self, evaluation: Evaluation, rollouts: Rollouts) -> Iterator[Rows]:
        for part in shown(evaluation, rollouts):
            yield from self._likeness(evaluation, part)
            yield from self._change(evaluation, part)
            yield from self._flow(evaluation, part[:: self.config.flow_every])

    def _likeness(self, evaluation: Evaluation, part: Shown) -> Iterator[Rows]:
        """How much the frames are alike, and those pixels of them that have moved since the rollout began."""
        c, true = self.config, part.true[:, 1:]
        where = moving(part.true, c.threshold, c.reach)
        counts = where.float().mean((2, 3)) >= c.least
        for role, frames in part.seen.items():
            found = frames[:, 1:]
            yield _rows(evaluation, MS_SSIM, part, role, ms_ssim(found, true), torch.ones_like(counts))
            yield _rows(evaluation, PSNR_MOVING, part, role, psnr_within(found, true, where), counts)
            yield _rows(evaluation, SSIM_MOVING, part, role, ssim_within(found, true, where), counts)

    def _change(self, evaluation: Evaluation, part: Shown) -> Iterator[Rows]:
        """How much of the change from frame to frame is the true one."""
        true, counts = changes(part.true), self._changing(part).float().mean((2, 3)) >= self.config.least
        size = true.square().flatten(2).mean(2)
        roles: tuple[Role, ...] = ("value", "ceiling")  # the floor is known
        for role in roles:
            found = changes(part.seen[role])
            error = (found - true).square().flatten(2).mean(2)
            yield _rows(evaluation, MATCH, part, role, agreement(found, true), counts)
            yield _rows(evaluation, TEMPORAL, part, role, error, counts, size)

    def _flow(self, evaluation: Evaluation, part: Shown) -> Iterator[Rows]:
        """How far what changes goes from frame to frame, and where to."""
        changing = self._changing(part)
        counts = changing.float().mean((2, 3)) >= self.config.least
        true = self._ways(part.true)
        there = F.adaptive_max_pool2d(changing.float(), true.shape[-2:]) > 0
        lengths = true.norm(dim=2).mean((2, 3))
        for role, frames in part.seen.items():
            found = torch.zeros_like(true) if role == "floor" else self._ways(frames)
            error = mean_within((found - true).norm(dim=2), there)
            yield _rows(evaluation, FLOW, part, role, error, counts)
            if role != "floor":
                yield _rows(evaluation, DEGREE, part, role, found.norm(dim=2).mean((2, 3)), counts, lengths)

    def _changing(self, part: Shown) -> Tensor:
        """Where a true frame differs from the one before, (N, F, H, W) bool."""
        return changes(part.true).abs().amax(-1) > self.config.threshold

    def _ways(self, frames: Tensor) -> Tensor:
        """Optical flow (N, F, 2, h, w) from frame to frame of (N, 1+F, H, W, 3), in pixels of these."""
        images = shrunk(frames, self.config.flow_side).unflatten(0, frames.shape[:2])
        found = flow(images[:, :-1].flatten(0, 1), images[:, 1:].flatten(0, 1), self.config.flow_reach)
        return found.unflatten(0, (len(frames), -1)) * (frames.shape[2] / images.shape[-2])


def _rows(
    evaluation: Evaluation,
    info: MetricInfo,
    part: Shown,
    role: Role,
    values: Tensor,
    counts: Tensor,
    target: Tensor | None = None,
) -> Rows:
    """Of values, and what they are compared with, (N, F), where ``counts`` says so."""
    window, k = (index.numpy() for index in counts.nonzero(as_tuple=True))
    asked = np.nan if target is None else target[counts]
    return evaluation.rows(info, part.windows[window], values[counts], k=k + 1, role=role, target=asked)
