"""Visual fidelity of decoded rollouts: PSNR and SSIM per horizon step (paper section 7)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from rslwm.evals.base import METRICS, Metric, MetricInfo
from rslwm.evals.evaluation import Evaluation
from rslwm.types import MetricRow, Role

PSNR = MetricInfo(
    name="psnr",
    axis="fidelity",
    higher_is_better=True,
    unit="dB",
    aggregate="mean",
    floor="hold the last context frame still, encoded and decoded",
    ceiling="encode and decode the true frames",
    description="Peak signal-to-noise ratio of the decoded rollout against the true frames.",
)
SSIM = MetricInfo(
    name="ssim",
    axis="fidelity",
    higher_is_better=True,
    unit="1",
    aggregate="mean",
    floor="hold the last context frame still, encoded and decoded",
    ceiling="encode and decode the true frames",
    description="Structural similarity of the decoded rollout to the true frames, luminance.",
)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(N, T, H, W, 3) twice, in [0, 1] -> (N, T) in dB; capped at 60."""
    return -10 * torch.log10((a - b).square().mean((2, 3, 4)).clamp_min(1e-6))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """(N, T, H, W, 3) twice, in [0, 1] -> (N, T), on luminance with the usual 11-pixel Gaussian window."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    x, y = (rearrange(v @ weights, "N T H W -> (N T) 1 H W") for v in (a, b))
    value = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    return value.reshape(a.shape[:2])


@METRICS.register("visual")
class Visual(Metric):
    infos = (PSNR, SSIM)

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        rollouts, context = evaluation.main, evaluation.config.context
        frames = evaluation.pixels(rollouts.windows, context + evaluation.future)
        true = frames[:, context:]
        candidates: dict[Role, Tensor] = {
            "value": evaluation.decode(rollouts.generated),
            "floor": evaluation.decode(rollouts.context[:, -1:]).expand_as(true),
            "ceiling": evaluation.decode(rollouts.true),
        }
        for role, images in candidates.items():
            for info, measure in ((PSNR, psnr), (SSIM, ssim)):
                for window, values in zip(rollouts.windows, measure(images, true).tolist(), strict=True):
                    for k, value in enumerate(values, start=1):
                        yield evaluation.row(info, window, value, k=k, role=role)
