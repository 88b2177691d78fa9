"""rslwm train"""

from __future__ import annotations

from dataclasses import dataclass

from rslwm.cli.flags import StudyCommand
from rslwm.cli.output import console
from rslwm.cli.track import tracked
from rslwm.train.track import Kind


@dataclass
class Train(StudyCommand):
    """Train world models and what they need first: data, encoder, adapter, latents, pixel decoder.

    Every latent space gives a checkpoint, a folder that `rslwm rollout` and `WorldModel.load` take by its path alone.
    In the folder of a comparison, what that has trained is reused.

    For instance:
      rslwm train demo --latents small-vae --out runs/vae
      rslwm train demo --latents small-dino+16 --data lerobot:my_robot --world-model.dit.depth 6
    """

    track: Kind | None = None
    """Show losses and speeds in tensorboard, wandb or trackio, too (pip install 'rslwm[trackers]')."""

    def run(self) -> None:
        from rslwm.study.checkpoint import train_world_models

        with tracked(self.track, self.config, self.folder):
            checkpoints = train_world_models(self.config, self.folder, self.jobs, self.executor)
        for checkpoint in checkpoints:
            console().print(f"checkpoint: {checkpoint}", markup=False, soft_wrap=True)
