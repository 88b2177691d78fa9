"""rslwm compare"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from rslwm.cli.flags import StudyCommand
from rslwm.cli.output import console, report_failures
from rslwm.cli.track import tracked
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

    track: Kind | None = None
    """Show losses and speeds in tensorboard, wandb or trackio, too (pip install 'rslwm[trackers]')."""
    estimate: bool = False
    """Print what there is to do and what it takes in FLOPs, GPU hours, disk and memory, and do nothing."""
    gpu: str = "H100"
    """Of the estimated hours: B200, H200, H100, MI300X, A100, L40S, L4, 4090 or 3090."""
    utilisation: float = 0.2
    """Share of that GPU's peak that the estimated hours assume. The hours of the paper's Table 6 come to 0.1 to 0.2."""

    def run(self) -> None:
        if self.estimate:
            from rslwm.cli.estimate import estimate

            estimate(self.config, self.folder, self.jobs, self.gpu, self.utilisation)
        else:
            self._compare(self.folder)

    def _compare(self, out: Path) -> None:
        from rslwm.report.page import build_report
        from rslwm.study.compare import compare
        from rslwm.study.record import Failure, RunRecord
        from rslwm.verdict.table import render

        screen, failed, pages = console(), list[Failure](), dict[Path, Path]()
        command = shlex.join(["rslwm", *sys.argv[1:]])
        with tracked(self.track, self.config, out):
            verdicts = compare(
                self.config, out, self.jobs, command, lambda at: pages.update({at: build_report(at)}), self.executor
            )
        for folder, verdict in verdicts.items():
            record, page = RunRecord.load(folder), pages[folder]
            if folder != out:
                screen.print(f"\nsize {folder.name}", style="bold")
            screen.print(render(verdict, {space.name: space.cost["training_seconds"] for space in record.spaces}))
            for note in record.notes:
                screen.print(note, markup=False)
            for missing in record.unavailable:
                screen.print(f"not available: {missing.metric}: {missing.reason}", markup=False)
            failed += record.failed
            screen.print(f"\nreport: {page}", markup=False, soft_wrap=True)
        screen.print(f"world models: {out / 'checkpoints'}", markup=False, soft_wrap=True)
        if failed:
            report_failures(failed)
