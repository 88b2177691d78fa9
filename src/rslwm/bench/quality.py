"""What fewer denoising steps cost: a trained world model on held-out clips of its own data."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from rslwm.compute import autocast, device
from rslwm.config import ComputeConfig, EvalConfig, SamplingConfig
from rslwm.data.corpus import Corpus
from rslwm.evals.replay import replay
from rslwm.model.world_model import WorldModel


def few_steps(
    model: WorldModel, corpus: Corpus, steps: int, few: int, clips: EvalConfig, compute: ComputeConfig
) -> dict[str, dict[str, float]]:
    """Latent error and PSNR of either number of steps against the truth, and what the few lose, with its standard error
    over clips.

    Args:
        clips: says how many, how long and which; the noise is the same for both.

    Raises:
        DataError: no episode holds a clip of that many frames.
    """
    samplings = {f"{count} steps": SamplingConfig(count) for count in (steps, few)}
    results = {name: replay(model, corpus, replace(clips, sampling=s), compute) for name, s in samplings.items()}
    frames = next(iter(results.values())).truth
    with autocast(compute):
        truth = model.encode(frames.to(device(compute))).float().cpu()[:, clips.context :]
    errors = {name: (result.latents - truth).square().flatten(1).mean(1) for name, result in results.items()}
    ratios = {name: result.psnr()["rollout"].mean(1) for name, result in results.items()}
    return {"latent error": _versus(errors), "PSNR in dB": _versus(ratios)}


def _versus(values: dict[str, Tensor]) -> dict[str, float]:
    """Means of (N,) values a clip, and their paired difference."""
    full, few = values.values()
    difference = few - full
    return {
        **{name: float(value.mean()) for name, value in values.items()},
        "difference": float(difference.mean()),
        "standard error": float(difference.std() / len(difference) ** 0.5),
        "clips": len(difference),
    }
