"""rslwm compare"""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from rslwm.cli.flags import StudyCommand
from rslwm.cli.output import console
from rslwm.cli.track import tracked
from rslwm.study.progress import duration
from rslwm.study.runner import Runner
from rslwm.train.track import Kind


@dataclass
class Compare(StudyCommand):
    """Compare latent spaces: hold data, world model and budget fixed, swap the space, measure, decide, report.

    Run it again and it goes on where it stopped; a finished run only prints its verdict.

    For instance:
      rslwm compare demo                                         six small spaces on the embedded simulator
      rslwm compare demo --data lerobot:my_robot --out runs/mine your own data
      rslwm compare demo --latents small-vae,my_encoder.py:Mine  your own encoder
      rslwm compare demo --seeds 3 --world-model.optim.steps 900 any field of the configuration is a flag
      rslwm compare demo --estimate                              what it would do and take, without doing it
    """

    out: Path | None = None
    """Folder of the run; runs/PRESET if it isn't given."""
    jobs: int = 0
    """Stages that run side by side; 0 is as many as fit the cores. Doesn't change any result."""
    track: Kind | None = None
    """Show losses and speeds in tensorboard, wandb or trackio, too (pip install 'rslwm[trackers]')."""
    estimate: bool = False
    """Print what is left to do and about how long it takes, and do nothing."""

    def run(self) -> None:
        out = self.out or Path("runs") / self.name
        (self._estimate if self.estimate else self._compare)(out)

    def _compare(self, out: Path) -> None:
        from rslwm.report.page import build_report
        from rslwm.study.checkpoint import export_world_models
        from rslwm.study.compare import compare
        from rslwm.study.table import render

        with tracked(self.track, self.config, out):
            verdict = compare(self.config, out, self.jobs, shlex.join(["rslwm", *sys.argv[1:]]))
        study = json.loads((out / "study.json").read_text())
        page = build_report(out)
        export_world_models(self.config, out)
        screen = console()
        screen.print(render(verdict, {space["name"]: space["cost"]["training_seconds"] for space in study["spaces"]}))
        for missing in study["unavailable"]:
            screen.print(f"not available: {missing['metric']}: {missing['reason']}", markup=False)
        screen.print(f"\nreport: {page}\nworld models: {out / 'checkpoints'}", markup=False, soft_wrap=True)

    def _estimate(self, out: Path) -> None:
        from rslwm.study.graph import Builder
        from rslwm.study.schedule import Schedule

        study, runner = Builder(self.config).build(), Runner(out, self.jobs, self.config.compute.threads)
        left = Schedule(study.targets, runner.finished)
        table = Table("stage", "number", "finished", "seconds each", box=None, header_style="dim")
        every, finished = Counter(s.kind for s in left.all), Counter(s.kind for s in left.kept)
        for kind, count in every.items():
            costs = [stage.cost for stage in left.all if stage.kind == kind]
            table.add_row(kind, str(count), str(finished[kind]), f"about {sum(costs) / count:.0f}")
        spaces = Table("latent space", "family", "latents", "encoder parameters", "bytes a frame", box=None)
        for entry in dict.fromkeys(space.entry for space in study.spaces):
            spec = entry.check(self.config).spec
            grid = "x".join(map(str, (*spec.grid, spec.channels)))
            spaces.add_row(entry.name, spec.family, grid, f"{spec.parameters:,}", f"{spec.bytes_per_frame:,}")
        seconds = duration(left.remaining_seconds(runner.jobs, {}))
        console().print(spaces, "", table, "", f"about {seconds} with {runner.jobs} jobs, at the demo's speed")
