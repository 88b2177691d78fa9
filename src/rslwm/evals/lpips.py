"""LPIPS of decoded rollouts, where its networks' weights are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from rslwm.compute import device
from rslwm.evals.base import METRICS, Load, Metric, NotAvailable
from rslwm.evals.decoded import decoded_frames, shown
from rslwm.evals.evaluation import Evaluation, in_parts
from rslwm.evals.rollouts import Rollouts, RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.evals.visual import PSNR
from rslwm.latents.perceptual import open_perceptual
from rslwm.latents.published.weights import MissingWeights

LPIPS = replace(
    PSNR,
    name="lpips",
    scored=False,
    higher_is_better=False,
    unit="1",
    description="Perceptual distance of the decoded rollout from the true frames (LPIPS 0.1, AlexNet unless set).",
)


@dataclass(frozen=True)
class LpipsConfig:
    """The network that compares."""

    network: Literal["lpips-alex", "lpips-vgg"] = "lpips-alex"
    """The classifier whose activations are compared; values of different ones can't be."""
    weights: str = ""
    """Folder with torchvision's file of the network; by default where torchvision keeps its downloads."""


@METRICS.register("lpips")
class Lpips(Metric):
    """Not scored: whether it can be measured depends on the machine, and scores must not."""

    infos = (LPIPS,)
    core = False
    Config = LpipsConfig
    config: LpipsConfig

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(decoded=decoded_frames(rollouts))

    def measure(self, evaluation: Evaluation, rollouts: Rollouts) -> Iterator[Rows]:
        try:
            distance = open_perceptual(self.config.network, self.config.weights)
        except MissingWeights as why:
            raise NotAvailable(str(why)) from None
        distance.to(device(evaluation.compute))
        for part in shown(evaluation, rollouts):
            true = part.true[:, 1:]
            for role, frames in part.seen.items():
                pair = (x.flatten(0, 1) for x in (frames[:, 1:], true))
                value = in_parts(distance, 32, evaluation.compute, *pair).unflatten(0, true.shape[:2])
                steps = range(1, true.shape[1] + 1)
                yield evaluation.rows(LPIPS, part.windows, value, k=[*steps], role=role)
