"""How fast a world model rolls out, against recomputing the whole window at every denoising step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from rslwm.bench.config import RolloutBenchConfig
from rslwm.bench.passes import cached, recomputed, windows
from rslwm.bench.result import Comparison, Measurement
from rslwm.bench.timing import announce, interleaved, timed
from rslwm.bench.world import SPEC, led_here, straightforward, world_model
from rslwm.compute import autocast, device, generator, peak_flops, precision
from rslwm.config import ComputeConfig, SamplingConfig
from rslwm.model.dit import DiT, forward_flops


@dataclass
class Rollouts:
    """One model, one draw of latents, actions and noise; rollouts of any length and number of steps are cut from it."""

    config: RolloutBenchConfig
    compute: ComputeConfig

    def __post_init__(self) -> None:
        self.model = world_model(self.config, self.compute)
        self.published = straightforward(self.model)
        rows, context, frames = self.config.batch, self.config.context, max(self.config.frames)
        latent = (*self.model.space.spec.grid, self.model.space.spec.channels)
        drawn, where = generator(self.config.seed, "bench rollout"), device(self.compute)
        self.context = torch.randn((rows, context, *latent), generator=drawn).to(where)
        self.noise = torch.randn((rows, frames, *latent), generator=drawn).to(where)
        self.actions = (2 * torch.rand((rows, context - 1 + frames, SPEC.dims), generator=drawn) - 1).to(where)

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

    def flops(self, frames: int, steps: int) -> tuple[float, float]:
        """Of ours and of the baseline; multiply-adds of matrix products count two, nothing else counts."""
        return rollout_flops(self.model.dit, self.config.grid, self.config.context, frames, steps, self.config.batch)


def rollout_flops(
    dit: DiT, grid: int, context: int, frames: int, steps: int, rows: int, futures: int = 1
) -> tuple[float, float]:
    """Floating-point operations of ``rows`` rollouts, so many futures of one context: with keys and values cached, and
    without."""
    flops, seen = cache(partial(forward_flops, dit, (grid, grid))), windows(frames, context, dit.config.max_frames)
    anew = steps * sum(flops(window) for window in seen)
    past = flops(min(context, dit.config.max_frames - 1)) / futures
    new = [flops(1, window - 1) for window in seen]
    return rows * (past + steps * sum(new) + sum(new[:-1])), rows * anew


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
    if config.few_steps not in (0, config.steps):
        counts[config.few_steps] = f"{title}, {config.few_steps} steps"
    anew = recomputed(frames, config.context, config.steps, window)
    passes = {steps: cached(frames, config.context, steps, window) for steps in counts}
    announce(title, config.rounds * per_pass * (anew + sum(passes.values())))
    works = [partial(rollouts.ours, frames, steps) for steps in counts]
    *fast, slow = interleaved([*works, partial(rollouts.baseline, frames, config.steps)], config.rounds, 0, title)

    made = (config.batch * frames, "frames")
    baseline = Measurement("window recomputed", slow, *made, rollouts.flops(frames, config.steps)[1])
    settings = {**asdict(config), "frames": frames, "dtype": str(dtype).removeprefix("torch.")}
    return [
        Comparison(
            counts[steps],
            {**settings, "our_steps": steps},
            Measurement("ours", seconds, *made, rollouts.flops(frames, steps)[0]),
            baseline,
            bound=anew / passes[steps],
            peak=peak_flops(device(compute), dtype),
            quality=checked if steps == config.steps else few_quality,
        )
        for steps, seconds in zip(counts, fast, strict=True)
    ]
