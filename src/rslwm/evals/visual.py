"""Visual fidelity of decoded rollouts: PSNR and SSIM per horizon step (paper section 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from rslwm.evals.aggregates import MEAN
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.rollouts import Rollouts, RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.types import Role

PSNR = MetricInfo(
    name="psnr",
    axis="fidelity",
    higher_is_better=True,
    unit="dB",
    aggregate=MEAN,
    floor="hold the last context frame still, encoded and decoded",
    ceiling="encode and decode the true frames",
    description="Peak signal-to-noise ratio of the decoded rollout against the true frames.",
    question="Do frames look right?",
    rung=0,
)
SSIM = replace(
    PSNR,
    name="ssim",
    unit="1",
    description="Structural similarity of the decoded rollout to the true frames, luminance.",
)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(N, T, H, W, 3) twice, in [0, 1] -> (N, T) in dB; capped at 60."""
    return -10 * torch.log10((a - b).square().mean((2, 3, 4)).clamp_min(1e-6))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """(N, T, H, W, 3) twice, in [0, 1] -> (N, T), on luminance with the usual 11-pixel Gaussian window."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes two seconds

    weights = torch.tensor([0.299, 0.587, 0.114])
    x, y = (rearrange(v @ weights, "N T H W -> (N T) 1 H W") for v in (a, b))
    value = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    return value.reshape(a.shape[:2])


@METRICS.register("visual")
class Visual(Metric):
    infos = (PSNR, SSIM)

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        """The generated frames, and the true ones as a ceiling."""
        return Load(decoded=2 * rollouts.clips * rollouts.future)

    def measure(self, evaluation: Evaluation, rollouts: Rollouts) -> Iterator[Rows]:
        context = rollouts.context.shape[1]
        true = evaluation.pixels(rollouts.windows, context + rollouts.future)[:, context:]
        candidates: dict[Role, Tensor] = {
            "value": evaluation.decode(rollouts.generated),
            "floor": evaluation.decode(rollouts.context[:, -1:]).expand_as(true),
            "ceiling": evaluation.decode(rollouts.true),
        }
        steps = np.arange(1, rollouts.future + 1)
        for role, images in candidates.items():
            for info, compare in ((PSNR, psnr), (SSIM, ssim)):
                yield evaluation.rows(info, rollouts.windows, compare(images, true), k=steps, role=role)
