"""Is a space told from itself? Of a run of several seeds, each space's first half against its second.

rslwm compare demo --latents small-vae@tabletop,small-cosmos@tabletop,small-dino+16@tabletop --seeds 4 --out runs/aa
python -m benchmarks.same_against_same runs/aa
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from rslwm.evals.rows import Rows
from rslwm.study.record import Judged
from rslwm.types import DataError
from rslwm.verdict.decide import Verdict, decide

FIRST, SECOND = "first half", "second half"


def halves(rows: Rows, space: str) -> Rows:
    """The rows of a space as of two: trained under the first half of its seeds, and under the second.

    Raises:
        DataError: it was trained once only.
    """
    own = rows.where(rows["latent"] == space)
    seeds = sorted(own.distinct("seed"))
    many = len(seeds) // 2
    if not many:
        raise DataError(f"{space} was trained once, which is no pair; run the study with --seeds 4")
    place = np.searchsorted(seeds, own["seed"])
    names = np.where(place < many, FIRST, SECOND).astype(object)
    paired = Rows({**own.columns, "latent": names, "seed": place % many})
    return paired.where(place < 2 * many)


def verdicts(run: Judged) -> Iterator[tuple[str, Verdict]]:
    """What is decided between the halves of each space, sanity rows aside."""
    for space in run.record.spaces:
        yield space.name, decide(halves(run.tested, space.name), run.metrics, run.config.verdict)


@dataclass
class SameAgainstSame:
    """Decide between trainings of one space, which differ in their seeds alone: nothing should be decided."""

    run_folder: tyro.conf.Positional[Path]
    """What `rslwm compare --seeds 4` was given as --out."""

    def run(self) -> None:
        table = Table("space", "axis", *(f"{half} [95 %]" for half in (FIRST, SECOND)), "decided", box=None)
        decided = total = 0
        for space, verdict in verdicts(Judged.load(self.run_folder)):
            for name, axis in verdict.axes.items():
                by_half = {standing.latent: standing for standing in axis.standings}
                scores = [f"{s.score:.2f} [{s.low:.2f}, {s.high:.2f}]" for s in (by_half[FIRST], by_half[SECOND])]
                table.add_row(space, name, *scores, axis.winner or "no")
                decided, total = decided + bool(axis.winner), total + 1
        console = Console()
        console.print(table)
        console.print(f"{decided} of {total} decided; by chance 5 % would be")


if __name__ == "__main__":
    tyro.cli(SameAgainstSame).run()
