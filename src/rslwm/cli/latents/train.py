"""rslwm latents train"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rslwm.cli.flags import StudyCommand
from rslwm.cli.output import console


@dataclass
class Train(StudyCommand):
    """Train latent spaces, each with its pixel decoder: a folder that `LatentSpace.load` takes by its path alone.

    Name the spaces, which are then trained as the demo does it, or a preset or file with --latents.

    For instance:
      rslwm latents train web-dino+96 --data lerobot:my_robot
      rslwm latents train small-vae,small-dino+16 --out runs/spaces
      rslwm latents train bridge --latents siglip2+96 --data rlds:bridge_dataset/1.0.0
    """

    of_spaces: ClassVar[bool] = True

    def run(self) -> None:
        from rslwm.study.checkpoint import train_spaces

        for folder in train_spaces(self.config, self.folder, self.jobs, self.executor):
            console().print(f"latent space: {folder}", markup=False, soft_wrap=True)
