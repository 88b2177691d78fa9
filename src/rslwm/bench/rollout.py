"""How fast a world model rolls out, against recomputing the whole window at every denoising step."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rslwm.bench.config import RolloutBenchConfig
from rslwm.bench.passes import cached, recomputed
from rslwm.bench.result import Comparison, Measurement
from rslwm.bench.timing import announce, interleaved, timed
from rslwm.bench.world import SPEC, led_here, straightforward, world_model
from rslwm.compute import ComputeConfig, autocast, device, generator, peak_flops, precision
from rslwm.model.dit import forward_flops
from rslwm.model.sampler import SamplingConfig


class Rollouts:
    """One model, one draw of latents, actions and noise; rollouts of any length and number of steps are cut from it."""

    def __init__(self, config: RolloutBenchConfig, compute: ComputeConfig) -> None:
        self.config, self.compute = config, compute
        self.model = world_model(config, compute)
        self.published = straightforward(self.model)
        self.model.for_inference(compute)
        latent, frames = (config.grid, config.grid, config.channels), max(config.frames)
        drawn, where = generator(config.seed, "bench rollout"), device(compute)
        self.context = torch.randn((config.batch, config.context, *latent), generator=drawn).to(where)
        self.noise = torch.randn((config.batch, frames, *latent), generator=drawn).to(where)
        actions = torch.rand((config.batch, config.context - 1 + frames, SPEC.dims), generator=drawn)
        self.actions = (2 * actions - 1).to(where)

    def ours(self, frames: int, steps: int) -> Tensor:
        """(B, frames, h, w, C) through the cache."""
        actions = self.actions[:, : self.config.context - 1 + frames]
        with autocast(self.compute):
            return self.model.rollout(self.context, actions, SamplingConfig(steps), noise=self.noise[:, :frames])

    def baseline(self, frames: int, steps: int) -> Tensor:
        """(B, frames, h, w, C), everything computed anew."""
        actions = led_here(self.actions[:, : self.config.context - 1 + frames])
        with autocast(self.compute):
            return self.published.rollout(self.context, actions, self.noise[:, :frames], steps)


def measure(
    config: RolloutBenchConfig, compute: ComputeConfig, quality: dict[str, Any] | None = None
) -> list[Comparison]:
    """A comparison for every number of frames, and one more with few steps, whose ``quality`` is the one given.

    Before it counts, both roll out until the window slides; from there on they mean different things: ours keeps what
    the frames left in the window computed when they still saw those that dropped out.
    """
    rollouts = Rollouts(config, compute)
    window = rollouts.model.config.dit.max_frames
    alike = max(1, min(max(config.frames), window - config.context))
    ours = rollouts.ours(alike, config.steps)
    theirs: list[Tensor] = []
    seconds = timed(lambda: theirs.append(rollouts.baseline(alike, config.steps)))
    difference = float((ours - theirs[0]).abs().max() / theirs[0].abs().max())
    checked = {f"largest relative difference over {alike} frames": difference}
    per_pass = seconds / recomputed(alike, config.context, config.steps, window)
    return [
        comparison for frames in config.frames for comparison in _compare(rollouts, frames, per_pass, checked, quality)
    ]


def _compare(
    rollouts: Rollouts, frames: int, per_pass: float, checked: dict[str, Any], few_quality: dict[str, Any] | None
) -> list[Comparison]:
    config, compute, window = rollouts.config, rollouts.compute, rollouts.model.config.dit.max_frames
    dtype = precision(compute)
    title = f"{frames} frames, {str(dtype).removeprefix('torch.')}"
    counts = {config.steps: title}
    if config.fewer:
        counts[config.few_steps] = f"{title}, {config.few_steps} steps"
    anew = recomputed(frames, config.context, config.steps, window)
    passes = {steps: cached(frames, config.context, steps, window) for steps in counts}
    announce(title, config.rounds * per_pass * (anew + sum(passes.values())))
    works = [partial(rollouts.ours, frames, steps) for steps in counts]
    *fast, slow = interleaved([*works, partial(rollouts.baseline, frames, config.steps)], config.rounds, 0, title)

    made = (config.batch * frames, "frames")
    # What a frame's pass looks back to adds 0.2 % to a DiT-S, so all passes count the same.
    pass_flops = config.batch * forward_flops(rollouts.model.dit, (config.grid, config.grid))
    baseline = Measurement("window recomputed", slow, *made, anew * pass_flops)
    settings = {**asdict(config), "frames": frames, "dtype": str(dtype).removeprefix("torch.")}
    return [
        Comparison(
            counts[steps],
            {**settings, "our_steps": steps},
            Measurement("ours", seconds, *made, passes[steps] * pass_flops),
            baseline,
            bound=anew / passes[steps],
            peak=peak_flops(device(compute), dtype),
            quality=checked if steps == config.steps else few_quality,
        )
        for steps, seconds in zip(counts, fast, strict=True)
    ]
