"""rslwm rollout"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table

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
class Rollout:
    """Let a world model continue recorded clips with their actions, beside what really happened.

    Writes a video a clip (left the truth, right the rollout), the generated latents, and prints PSNR per horizon step
    between its floor (the last frame copied) and its ceiling (encode and decode the truth).

    For instance:
      rslwm rollout runs/demo/checkpoints/small-vae --out runs/rollout
      rslwm rollout runs/demo/checkpoints/small-vae --data lerobot:my_robot --future 16 --out runs/rollout
    """

    checkpoint: tyro.conf.Positional[Path]
    """Folder of a world model."""
    out: Path
    """Folder to write to."""
    data: str = ""
    """sim:tabletop, lerobot:FOLDER, hf://datasets/OWNER/NAME, rlds:FOLDER or hdf5:FILE; the model's own data if
    it isn't given. Episodes of its training are left out."""
    camera: str = ""
    """Of these data; several, comma separated, for a model of several. The name in training if it isn't given."""
    features: Annotated[tuple[str, ...], tyro.conf.arg(name="data.features")] = ()
    """With --data: features that these call otherwise, each as OURS=THEIRS, such as action=actions."""
    action_spec: Annotated[str, tyro.conf.arg(name="data.action-spec")] = ""
    """With --data: YAML or JSON file with their action spec, where they don't carry one."""
    seen: bool = False
    """Roll out also clips of episodes that the model was trained on, which tells what it remembers."""
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
        from rslwm.study.checkpoint import clip_settings, open_corpus, run_folder

        torch.set_num_threads(self.compute.threads)
        model = WorldModel.load(self.checkpoint)
        data = clip_settings(model, self.checkpoint, self.data, self.camera)
        if self.data:  # other data, other names
            data = replace(data, features=self.features, action_spec=self.action_spec)
        corpus = open_corpus(data, model, self.out if self.data else run_folder(self.checkpoint, self.out))
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
