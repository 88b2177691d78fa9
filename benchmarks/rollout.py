"""How fast a world model rolls out, against recomputing the whole window at every denoising step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.comparison import Comparison, Paired, main
from benchmarks.few_steps import of_checkpoint
from benchmarks.straightforward.sampler import led_here, same_weights
from rslwm.bench import generation
from rslwm.bench.measure import Case, measure
from rslwm.compute import autocast
from rslwm.evals.rollouts import RolloutsConfig


@dataclass
class Rollout(generation.Rollout, Paired):
    """Pair rollouts whose past frames' keys and values are cached with ones that recompute the window at every step.

    Same random weights, noise and precision on both sides. Also measures ours with few denoising steps against the
    baseline's many; what that costs is measured on a trained world model.

    For instance:
      python -m benchmarks.rollout --grid 4 --frames 4
      python -m benchmarks.rollout --size demo --grid 8 --channels 16 --checkpoint runs/demo/checkpoints/small-vae
    """

    few_steps: int = 3
    """With how many denoising steps ours is measured besides. 0 leaves it out."""
    checkpoint: Path | None = None
    """Folder of a trained world model. What few steps cost is measured on held-out clips of its own data."""
    clips: int = RolloutsConfig.clips
    """How many of those clips are rolled out."""

    def compare(self, folder: Path) -> list[Comparison]:
        """With all denoising steps and with few.

        Before it counts, both roll out until the window slides; from there on they mean different things: ours keeps
        what the frames left in the window computed when they still saw those that dropped out.
        """
        pair, title = PairedRollouts(self), f"{self.frames} frames"
        qualities: dict[int, dict[str, Any]] = {self.steps: pair.difference()}
        if self.few_steps not in (0, self.steps):
            qualities[self.few_steps] = self._cost(folder)
        *ours, baseline = measure([pair.warm(pair.case(steps)) for steps in qualities] + [pair.recomputed], self.rounds)
        return [
            Comparison(title + f", {steps} steps" * (steps != self.steps), found, baseline, pair.bound(steps), quality)
            for (steps, quality), found in zip(qualities.items(), ours, strict=True)
        ]

    def _cost(self, folder: Path) -> dict[str, Any]:
        if self.checkpoint is None:
            return {"quality": "not measured; that takes a trained world model: --checkpoint"}
        clips = RolloutsConfig(clips=self.clips, context=self.context, future=self.frames)
        return of_checkpoint(self.checkpoint, self.steps, self.few_steps, clips, self.compute, self.out or folder)


class PairedRollouts(generation.Rollouts):
    """The same rollouts, recomputed."""

    def __init__(self, bench: generation.Rollout) -> None:
        super().__init__(bench)
        self.published = same_weights(bench.world_model())
        self.window = bench.dit.max_frames

    def baseline(self, frames: int, steps: int) -> Tensor:
        """(B, frames, h, w, C), everything computed anew."""
        actions = led_here(self.actions[:, : self.bench.context - 1 + frames])
        with autocast(self.bench.compute):
            return self.published.rollout(self.context, actions, self.noise[:, :frames], steps)

    def difference(self) -> dict[str, float]:
        """Of what both make before the window slides, relative to the largest value."""
        steps, frames = self.bench.steps, max(1, min(self.bench.frames, self.window - self.bench.context))
        ours, theirs = self.ours(frames, steps), self.baseline(frames, steps)
        name = f"largest relative difference over {frames} frames"
        return {name: float((ours - theirs).abs().max() / theirs.abs().max())}

    @property
    def anew(self) -> int:
        """Frames that go through the transformer."""
        return passes(self.bench.frames, self.bench.context, self.bench.steps, self.window)

    @property
    def recomputed(self) -> Case:
        """The whole rollout."""
        bench = self.bench
        flops = bench.batch * self.anew * bench.pass_flops(self.model)
        work = partial(self.baseline, bench.frames, bench.steps)
        return self.warm(replace(self.case(bench.steps), name="window recomputed", work=work, flops=flops))

    def warm(self, case: Case) -> Case:
        """A case after :meth:`difference`, which has run everything."""
        return replace(case, warm_up=lambda: None)

    def bound(self, steps: int) -> float:
        """How many times fewer frames ours sends through the transformer."""
        return self.anew / self.passes(steps)


def passes(frames: int, context: int, steps: int, max_frames: int) -> int:
    """How often a frame goes through the transformer, where the whole window does at every step; the window slides."""
    return steps * sum(min(context + frame + 1, max_frames) for frame in range(frames))


if __name__ == "__main__":
    main(Rollout)
