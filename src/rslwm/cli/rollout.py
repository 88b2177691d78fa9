"""rslwm rollout"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

from rslwm.cli.checkpoint import CheckpointCommand
from rslwm.cli.output import console
from rslwm.compute import ComputeConfig
from rslwm.evals.config import EvalConfig
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.model.sampler import SamplingConfig

if TYPE_CHECKING:
    from rslwm.evals.replay import Replay

_DEFAULTS = RolloutsConfig()
SHOWN_SIDE = 256
"""Small frames are enlarged in the videos to about this many pixels."""


@dataclass
class Rollout(CheckpointCommand):
    """Let a world model continue recorded clips with their actions, beside what really happened.

    Writes a video a clip (left the truth, right the rollout), the generated latents, and prints PSNR per horizon step
    between its floor (the last frame copied) and its ceiling (encode and decode the truth).

    For instance:
      rslwm rollout runs/demo/checkpoints/small-vae --out runs/rollout
      rslwm rollout runs/demo/checkpoints/small-vae --data lerobot:my_robot --future 16 --out runs/rollout
    """

    seen: bool = False
    """Roll out also clips of episodes that the model was trained on, which tells what it remembers; without it they are
    left out."""
    clips: int = 8
    """Number of clips."""
    context: int = _DEFAULTS.context
    """Real frames that a rollout starts from."""
    future: int = _DEFAULTS.future
    """Frames to generate."""
    sampling: SamplingConfig = _DEFAULTS.sampling
    seed: int = EvalConfig.seed
    """Of the choice of clips and of the noise."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def run(self) -> None:
        import torch

        from rslwm.evals.replay import replay
        from rslwm.model.world_model import WorldModel
        from rslwm.study.checkpoint import open_corpus

        torch.set_num_threads(self.compute.threads)
        model = WorldModel.load(self.checkpoint)
        data, stages = self.source(model)
        corpus = open_corpus(data, model, stages)
        asked = RolloutsConfig(self.clips, self.context, self.future, self.sampling)
        result = replay(model, corpus, asked, self.compute, self.seed, seen=self.seen)
        self._write(result, model.action_spec.hz)
        table = Table("PSNR in dB after", *(f"{k + 1}" for k in range(self.future)), box=None, header_style="dim")
        for name, values in result.psnr().items():
            table.add_row(name, *(f"{value:.2f}" for value in values.mean(0)))
        if model.seen is None:
            console().print("The checkpoint doesn't say which episodes it was trained on: some may be among these.")
        seen = model.seen.among(corpus) if model.seen else set()
        console().print(table, f"\n{len(result.clips)} clips in {self.out}")
        if seen:
            done = "are among the clips, too (--seen)" if self.seen else "were left out"
            console().print(f"{len(seen)} of {len(corpus.dataset)} episodes, on which the model was trained, {done}")

    def _write(self, result: Replay, hz: float) -> None:
        import torch

        from rslwm.data.video import VideoWriter
        from rslwm.tensors import write_tensors

        self.out.mkdir(parents=True, exist_ok=True)
        pairs = torch.cat([result.truth, result.rollout], 3)  # (N, T, H, 2 W, 3)
        zoom = max(1, SHOWN_SIDE // pairs.shape[2])
        frames = (pairs * 255).round().to(torch.uint8)
        frames = frames.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
        for number, (clip, (episode, start)) in enumerate(zip(frames, result.clips, strict=True)):
            writer = VideoWriter(self.out / f"{number:02d}.mp4", hz, *clip.shape[1:3])
            writer.add(clip.numpy())
            writer.close()
            console().print(f"{number:02d}.mp4: {episode}, step {start}", markup=False, highlight=False)
        clips = "\n".join(f"{episode}, step {start}" for episode, start in result.clips)
        write_tensors({"latents": result.latents}, self.out / "latents.safetensors", {"clips": clips})
