"""rslwm play."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.markup import escape

from rslwm.cli.output import console
from rslwm.compute import ComputeConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.play.playground import PlayConfig, open_playground, resolve
from rslwm.play.server import address, listener, server

TOKEN = "RSLWM_TOKEN"
_DEFAULTS = PlayConfig()


@dataclass
class Play:
    """Drive world models by hand in a local page, every latent space under the same keys, the true simulator beside
    them.

    Keyboard, gamepad or on-screen sticks; undo, fork, replay, policies and plans; how far each space is from the truth
    while one drives. Others than this machine may connect only with the token in the environment variable RSLWM_TOKEN.

    For instance:
      rslwm play                                                 those that come with the package
      rslwm play small-vae@tabletop
      rslwm play runs/mine/checkpoints/small-vae runs/mine/checkpoints/small-dino+16
      rslwm play --run runs/demo
      rslwm play --sim
    """

    checkpoints: tyro.conf.Positional[list[str]] = field(default_factory=list)
    """World models, one after the other: folders, or names such as small-vae@tabletop; all shipped ones without any."""
    of_run: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Without folders: play all world models of this run."""
    sim: bool = False
    """Set the simulator beside the world models also where they weren't trained in it; alone without any."""
    data: str = ""
    """Where models begin that weren't trained in the simulator: lerobot:FOLDER and the like, as in `rslwm rollout`."""
    context: int = _DEFAULTS.context
    """Real frames that a drive begins with."""
    sampling: SamplingConfig = _DEFAULTS.sampling
    policies: tuple[str, ...] = ()
    """Policies to choose from beside the shipped ones: mapping.yaml of a server, or path/to/file.py:Name."""
    host: str = "127.0.0.1"
    """Where it listens."""
    port: int = 8765
    """Where it listens; 0 is any free port."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def run(self) -> None:
        torch.set_num_threads(self.compute.threads)  # small models are slower on more
        token = os.environ.get(TOKEN, "")
        listening = listener(self.host, self.port, token)  # what can't be had is said before anything is loaded
        found = [] if self.sim and not self.checkpoints and not self.of_run else resolve(self.checkpoints, self.of_run)
        config = PlayConfig(self.context, self.sampling, self.policies)
        ground = open_playground(found, self.sim, config, self.compute, self.data)
        screen = console()
        for pane in ground.panes:
            probe = "reads actions back" if pane.probe else "no inverse dynamics beside it" if pane.model else "true"
            screen.print(f"{escape(pane.name)}: {probe}")
        screen.print(f"open {escape(address(listening, self.host, token))} in a browser; Ctrl-C stops it.")
        server(ground, token).run(sockets=[listening])
