"""rslwm report and join: what is made of finished runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from rslwm.cli.output import console
from rslwm.reproduce import table as ledgers
from rslwm.reproduce.against import Beside
from rslwm.run.lock import locked
from rslwm.run.runner import LOCK, LOCK_SECONDS
from rslwm.serialisation import ConfigError
from rslwm.study.compare import comparisons, run_of
from rslwm.study.join import join
from rslwm.study.record import RunRecord, judge, publish, write_training_noise
from rslwm.types import DataError
from rslwm.verdict.table import render, render_robustness


@dataclass
class Report:
    """Decide again from a run's rows and write its report: one HTML file, and every figure as SVG and PNG.

    For instance:
      rslwm report runs/demo
      rslwm report runs/seeds --training-noise noise.json
      rslwm report runs/seeds --publish docs/results/seeds
      rslwm report runs/demo --against paper
      rslwm report runs/demo --tables tables
      rslwm report runs/before runs/after                     what changed from one to the other
    """

    run_folder: tyro.conf.Positional[Path]
    """What `rslwm compare` was given as --out."""
    versus: tyro.conf.Positional[Path | None] = None
    """Another finished run: instead of the report write a page on what changed from the first to this one."""
    tables: Path | None = None
    """Write scores and metrics as Markdown and LaTeX into this folder, too."""
    training_noise: Path | None = None
    """Record here what a run with several seeds knows about training noise; runs of the same configuration with one
    seed take it as --verdict.training-noise."""
    publish: Path | None = None
    """Copy what others need to judge for themselves here: rows, record, configuration, verdict, and the page without
    its videos."""
    against: Literal["paper"] | None = None
    """Put the numbers beside those printed in arXiv 2605.06388, with the differences of protocol, here and in the
    report."""

    def run(self) -> None:
        for folder in (self.run_folder, self.versus):
            if folder and not folder.is_dir():
                raise DataError(f"{folder} is no folder; name what `rslwm compare` was given as --out")
        if self.versus:
            self._compare(self.run_folder, self.versus)
            return
        with locked(run_of(self.run_folder) / LOCK, LOCK_SECONDS):  # a run that goes on rewrites all that is read here
            self._write(comparisons(self.run_folder))

    def _compare(self, first: Path, second: Path) -> None:
        from rslwm.report.versus import build_versus

        if others := [name for name in ("tables", "training_noise", "publish", "against") if getattr(self, name)]:
            raise ConfigError(f"--{others[0].replace('_', '-')} is of one run's report; give it one run folder")
        console().print(f"what changed: {build_versus(first, second)}", markup=False, soft_wrap=True)

    def _write(self, folders: Sequence[Path]) -> None:
        from rslwm.report.page import build_report
        from rslwm.report.tables import write_tables

        if (self.training_noise or self.publish or self.tables) and len(folders) > 1:
            raise ConfigError(f"{self.run_folder} holds several sizes; name one of their folders: {folders[0]}")
        if self.training_noise:
            self._note(folders[0], self.training_noise)
        for folder in folders:
            verdict = judge(folder)
            if verdict.robustness:
                console().print(render_robustness(verdict), "")
            beside = Beside.load(folder) if self.against else None
            if beside:
                console().print(ledgers.beside(beside), "", highlight=False)
            console().print(f"report: {build_report(folder, beside)}", markup=False, soft_wrap=True)
            if self.tables:
                written = ", ".join(map(str, write_tables(verdict, self.tables)))
                console().print(f"tables: {written}", markup=False, soft_wrap=True)
        if self.publish:
            copied = publish(folders[0], self.publish)
            build_report(self.publish)
            size = sum(path.stat().st_size for path in copied) / 1e6
            console().print(f"published: {self.publish} ({size:.1f} MB and the page)", markup=False, soft_wrap=True)

    def _note(self, folder: Path, to: Path) -> None:
        noise = write_training_noise(folder, to)
        found = f"{len(noise.values)} metrics, {noise.freedom} degrees of freedom"
        console().print(f"training noise: {to} ({found})", markup=False, soft_wrap=True)


@dataclass
class Join:
    """Put finished runs together that are pieces of one study: other seeds or other latent spaces, the rest alike.

    For instance:
      rslwm compare demo --seeds 1 --out runs/a                 today, here
      rslwm compare demo --first-seed 1 --seeds 2 --out runs/b  tomorrow, or on another machine
      rslwm join runs/a,runs/b --out runs/demo3
    """

    run_folders: tyro.conf.Positional[tuple[Path, ...]]
    """What `rslwm compare` was given as --out, two or more."""
    out: Path
    """Folder of what is joined: rows, verdict and report of all."""

    def run(self) -> None:
        from rslwm.report.page import build_report

        if len(self.run_folders) < 2:
            raise ConfigError("name two or more runs to join")
        verdict = join(self.run_folders, self.out, shlex.join(["rslwm", *sys.argv[1:]]))
        costs = {space.name: space.cost["training_seconds"] for space in RunRecord.load(self.out).spaces}
        console().print(render(verdict, costs))
        console().print(f"report: {build_report(self.out)}", markup=False, soft_wrap=True)
