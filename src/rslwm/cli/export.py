"""rslwm export lerobot | rerun | hub"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from rslwm.cli.data import describe
from rslwm.cli.output import console, counting
from rslwm.data.lerobot import write_lerobot
from rslwm.export.hub import push, write_hub
from rslwm.export.rerun import write_rerun
from rslwm.export.rollouts import RunRollouts


@dataclass
class LeRobot:
    """Write the rollouts of a finished comparison as a LeRobot v3 data set, which its visualiser, Rerun and Foxglove
    open: the true view, what each space imagines, the actions, those read back, and how a judge took it.

    For instance:
      rslwm export lerobot runs/demo --out data/rollouts
    """

    run_folder: tyro.conf.Positional[Path]
    """What `rslwm compare` was given as --out."""
    out: Path
    """A new folder."""

    def run(self) -> None:
        rollouts = RunRollouts(self.run_folder)
        with counting("clips", len(rollouts)) as progress:
            dataset = write_lerobot(
                rollouts.episodes(), self.out, rollouts.spec, len(rollouts), progress, rollouts.state_names
            )
        console().print(describe(dataset))


@dataclass
class Rerun:
    """Write the same as a recording of Rerun, with frames as they are and every number a curve.

    For instance:
      rslwm export rerun runs/demo --out rollouts.rrd
    """

    run_folder: tyro.conf.Positional[Path]
    """What `rslwm compare` was given as --out."""
    out: Path
    """A new file, .rrd."""

    def run(self) -> None:
        rollouts = RunRollouts(self.run_folder)
        with counting("clips", len(rollouts)) as progress:
            write_rerun(rollouts, self.out, progress)
        console().print(f"{self.out}: {len(rollouts)} clips; open it with `rerun {self.out}`", soft_wrap=True)


@dataclass
class Hub:
    """Write a world model as a repository of the Hugging Face hub with a card, and push it there if asked to.

    It is loaded by its address wherever a world model is named: hf://OWNER/NAME.

    For instance:
      rslwm export hub small-vae@tabletop --name me/small-vae --out hub/small-vae
      rslwm export hub runs/mine/checkpoints/small-vae --name me/small-vae --out hub/small-vae --push
    """

    checkpoint: tyro.conf.Positional[str]
    """Folder of a world model, or the name of a shipped one, NAME@COLLECTION."""
    name: str
    """OWNER/NAME on the hub."""
    out: Path
    """A new folder."""
    push: bool = False
    """Upload it, as whom `hf auth login` was done."""
    private: bool = False
    """Make the repository a private one."""

    def run(self) -> None:
        folder = write_hub(self.checkpoint, self.out, self.name)
        where = push(folder, self.name, self.private) if self.push else folder
        console().print(f"{where}", markup=False, highlight=False, soft_wrap=True)
