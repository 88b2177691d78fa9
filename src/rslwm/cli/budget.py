"""rslwm budget, and compare --power: where chance comes from, and which differences a study can detect."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import tyro
from rich.table import Table

from rslwm.cli.output import console
from rslwm.serialisation import to_dict
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.record import piece
from rslwm.types import AXES
from rslwm.verdict.budget import PROBE, SAMPLING, WORLD_MODEL, Budget, budget, closest, detectable, shipped
from rslwm.verdict.training_noise import Circumstances

TOLD = 6
"""Differences of circumstances that are listed."""


@dataclass
class MeasureBudget:
    """Measure where chance comes from: a pilot of several seeds, and repetitions in which one thing is drawn again.

    A repetition in a folder that shares the pilot's stages trains only what is drawn again.

    For instance:
      rslwm compare demo --from-scratch --metrics all --seeds 3 --out runs/pilot
      mkdir -p runs/models && ln -s ../pilot/stages runs/models/stages
      rslwm compare demo --from-scratch --metrics all --seeds 3 --world-model.redraw 1 --out runs/models
      rslwm budget runs/pilot --again runs/models --out budget.json
      rslwm compare demo --from-scratch --seeds 5 --power --budget budget.json
    """

    run_folder: tyro.conf.Positional[Path]
    """The pilot: what `rslwm compare --seeds 3` was given as --out."""
    again: tuple[Path, ...] = ()
    """Repetitions of it with --world-model.redraw, --evaluation.probe.redraw or --evaluation.seed, one of each."""
    out: Path | None = None
    """Where to write the record."""

    def run(self) -> None:
        record = budget(self.run_folder.name, piece(self.run_folder), *map(piece, self.again))
        console().print(_components(record))
        console().print(
            "Standard deviations, in scores from 0 to 1: of one training of a space and what it is made of, and of the "
            "difference of two spaces by the chance of episodes."
        )
        if self.out:
            record.save(self.out)
            console().print(f"budget: {self.out}", markup=False, soft_wrap=True)


def print_power(config: StudyConfig, path: Path | None) -> None:
    """Print what a study would detect; raises :class:`DataError` if there is no record, or it is damaged."""
    study = Study(config)
    size = study.compared[0].row.size
    here, usual = (Circumstances.planned(size, to_dict(c)) for c in (config, StudyConfig()))
    record = closest(here, usual, [Budget.load(path)] if path else shipped())
    spaces = {variant.entry.name: variant.described.spec.family for variant in study.compared}
    counts = Counter(spaces.values())
    sides = counts["semantic"], counts["reconstruction"]
    screen = console()
    screen.print(_powers(record, config.seeds, sides))
    screen.print(f"Smallest differences of scores that are found with 80 % power at 95 % confidence; measured in the "
                 f"study {record.name!r}.")  # fmt: skip
    if record.unlike:
        more = f" and {len(record.unlike) - TOLD} more" if len(record.unlike) > TOLD else ""
        screen.print(f"That isn't this study, and nobody knows by how much its chance is another: "
                     f"{'; '.join(record.unlike[:TOLD])}{more}.", markup=False)  # fmt: skip


def _components(record: Budget) -> Table:
    columns = ("score", "axis", "training", "encoder", WORLD_MODEL, PROBE, SAMPLING, "episodes", "units")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column in ("score", "axis") else "right")
    for name, variance in record.scores.items():
        redrawn = [variance.redrawn.get(part) for part in (WORLD_MODEL, PROBE, SAMPLING)]
        cells = [variance.training, variance.encoder, *redrawn, variance.episodes]
        table.add_row(name, variance.axis, *map(_sd, cells), str(variance.units))
    return table


def _sd(variance: float | None) -> str:
    return "-" if variance is None else f"{sqrt(variance):.3f}"


def _powers(record: Budget, seeds: int, sides: tuple[int, int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    plans = [(seeds, 1.0), (seeds, 2.0), (2 * seeds, 1.0)]
    for column in ("axis", "between", *(_plan(*plan) for plan in plans)):
        table.add_column(column, justify="left" if column in ("axis", "between") else "right")
    contrast = f"families of {sides[0]} and {sides[1]}"
    for axis in (a for a in AXES if a in record.scores):
        variance = record.scores[axis]
        for between, families in (("two spaces", (1, 1)), (contrast, sides)):
            if all(families):
                found = (f"{detectable(variance, n, families, episodes):.2f}" for n, episodes in plans)
                table.add_row(axis, between, *found)
    return table


def _plan(seeds: int, episodes: float) -> str:
    more = "" if episodes == 1 else f", {episodes:g} x episodes"
    return f"{seeds} training{'s' if seeds > 1 else ''}{more}"
