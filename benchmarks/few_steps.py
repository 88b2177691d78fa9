"""What fewer denoising steps cost: a trained world model on held-out clips of its own data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, device
from rslwm.data.corpus import Corpus
from rslwm.evals.config import EvalConfig
from rslwm.evals.replay import replay
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.study.checkpoint import clip_settings, open_corpus, run_folder

SEED = EvalConfig.seed


def few_steps(
    model: WorldModel, corpus: Corpus, steps: int, few: int, clips: RolloutsConfig, compute: ComputeConfig
) -> dict[str, dict[str, float]]:
    """Figures of either number of steps, and their difference with its standard error over clips.

    Latent error and PSNR against the truth are best for the mean of all futures, which is what few steps tend to; what
    that loses is in the other two. Detail is 1 where frames are as sharp as encoded and decoded true ones. The spread
    is the standard deviation of latents over the noise.

    Args:
        clips: says how many, how long and which; the noise is the same for both.

    Raises:
        DataError: no episode holds a clip of that many frames.
    """
    samplings = {f"{count} steps": SamplingConfig(count) for count in (steps, few)}
    found = {name: _figures(model, corpus, replace(clips, sampling=s), compute) for name, s in samplings.items()}
    full, _ = found.values()
    return {figure: _versus({name: values[figure] for name, values in found.items()}) for figure in full}


def of_checkpoint(
    checkpoint: Path, steps: int, few: int, clips: RolloutsConfig, compute: ComputeConfig, out: Path
) -> dict[str, dict[str, float]]:
    """The same of a checkpoint on its own data, which are recorded anew in ``out`` if it has left its run."""
    model = WorldModel.load(checkpoint)
    corpus = open_corpus(clip_settings(model, checkpoint), model, run_folder(checkpoint, out))
    found = few_steps(model, corpus, steps, few, clips, compute)
    return {f"{name} of {checkpoint.name}": values for name, values in found.items()}


def _figures(model: WorldModel, corpus: Corpus, clips: RolloutsConfig, compute: ComputeConfig) -> dict[str, Tensor]:
    """Values a clip, each (N,)."""
    result = replay(model, corpus, clips, compute, SEED)
    again = replay(model, corpus, clips, compute, SEED, draw=1).latents
    with autocast(compute):
        truth = model.encode(result.truth.to(device(compute))).float().cpu()[:, clips.context :]
    rollout, decoded = (frames[:, clips.context :] for frames in (result.rollout, result.decoded))
    return {
        "latent error": (result.latents - truth).square().flatten(1).mean(1),
        "PSNR in dB": result.psnr()["rollout"].mean(1),
        "detail": gradient(rollout) / gradient(decoded),
        "spread": ((result.latents - again).square().flatten(1).mean(1) / 2).sqrt(),
    }


def gradient(frames: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels: (N, T, H, W, 3) -> (N,)."""
    down, right = (frames.diff(dim=axis).abs().flatten(1).mean(1) for axis in (2, 3))
    return (down + right) / 2


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
