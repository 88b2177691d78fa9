"""rslwm report"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from rslwm.cli.output import console
from rslwm.serialisation import ConfigError
from rslwm.types import DataError


@dataclass
class Report:
    """Decide again from a run's rows and write its report: one HTML file, and every figure as SVG and PNG.

    For instance:
      rslwm report runs/demo
      rslwm report runs/seeds --training-noise noise.json
    """

    run_folder: tyro.conf.Positional[Path]
    """What `rslwm compare` was given as --out."""
    training_noise: Path | None = None
    """Record here what a run with several seeds knows about training noise; runs of the same configuration with one
    seed take it as --verdict.training-noise."""

    def run(self) -> None:
        from rslwm.run.lock import locked
        from rslwm.run.runner import LOCK, LOCK_SECONDS
        from rslwm.study.compare import run_of

        if not self.run_folder.is_dir():
            raise DataError(f"{self.run_folder} is no folder; name what `rslwm compare` was given as --out")
        with locked(run_of(self.run_folder) / LOCK, LOCK_SECONDS):  # a run that goes on rewrites all that is read here
            self._write()

    def _write(self) -> None:
        from rslwm.report.page import build_report
        from rslwm.study.compare import comparisons
        from rslwm.study.record import judge, write_training_noise

        folders = comparisons(self.run_folder)
        if self.training_noise:
            if len(folders) > 1:
                raise ConfigError(
                    f"{self.run_folder} holds several sizes; give the folder of one, such as {folders[0]}"
                )
            noise = write_training_noise(folders[0], self.training_noise)
            found = f"{len(noise.values)} metrics, {noise.freedom} degrees of freedom"
            console().print(f"training noise: {self.training_noise} ({found})", markup=False, soft_wrap=True)
        for folder in folders:
            judge(folder)
            console().print(f"report: {build_report(folder)}", markup=False, soft_wrap=True)
