"""Two implementations of the same work side by side, as a table and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from rslwm.bench.benchmark import Benchmark, cells, empty_table
from rslwm.bench.measure import Measurement
from rslwm.cli.flags import parse
from rslwm.cli.main import EXPECTED


@dataclass(frozen=True)
class Comparison:
    """Ours and a baseline, measured in pairs."""

    title: str
    ours: Measurement
    baseline: Measurement
    bound: float | None = None
    """The ratio that counting the work allows, were every operation equally fast on both sides."""
    quality: dict[str, Any] | None = None
    """What the outputs differ by, or what speed has cost, by name; values of JSON types."""

    def __post_init__(self) -> None:
        if len(self.ours.seconds) != len(self.baseline.seconds):
            raise ValueError(
                f"{self.title}: {len(self.ours.seconds)} runs against {len(self.baseline.seconds)}; only pairs compare"
            )

    @property
    def ratios(self) -> list[float]:
        """How many times faster ours was, pair by pair (items a second)."""
        pairs = zip(self.ours.rates, self.baseline.rates, strict=True)
        return [ours / baseline for ours, baseline in pairs]

    @property
    def ratio(self) -> float:
        """The median of :attr:`ratios`."""
        return median(self.ratios)

    def to_dict(self) -> dict[str, Any]:
        """The fields, and what follows from them for whoever reads the file without this package."""
        sides = {"ours": self.ours.to_dict(), "baseline": self.baseline.to_dict()}
        return {**asdict(self), **sides, "ratio": self.ratio, "ratio_range": [min(self.ratios), max(self.ratios)]}


@dataclass
class Paired(Benchmark):
    """A benchmark of ours against a baseline, run for run in one process."""

    def compare(self, folder: Path) -> list[Comparison]:
        """What is found; the folder is for files that it takes, and temporary."""
        raise NotImplementedError

    def measure(self, folder: Path) -> tuple[Table, dict[str, Any]]:
        found = self.compare(folder)
        return table(found), {"comparisons": [comparison.to_dict() for comparison in found]}


def table(comparisons: Iterable[Comparison]) -> Table:
    """Two rows a comparison, ours and what it is compared with; below them, what the outputs differ by."""
    shown, notes = empty_table("faster", "range", "bound"), []
    for found in comparisons:
        bound = f"{found.bound:.2f}x" if found.bound else ""
        shown.add_row(f"[bold]{found.title}[/]")
        faster = (f"[bold]{found.ratio:.2f}x[/]", f"{min(found.ratios):.2f} to {max(found.ratios):.2f}", bound)
        shown.add_row(*cells(found.ours), *faster)
        shown.add_row(*cells(found.baseline))
        notes += [f"{found.title}, {what}: {_text(value)}" for what, value in (found.quality or {}).items()]
    shown.caption, shown.caption_justify, shown.caption_style = "\n".join(notes), "left", ""
    return shown


def main(benchmark: type[Paired]) -> None:
    """Run a benchmark from the command line; what a user can put right is one message and exit code 1."""
    name = f"python -m benchmarks.{benchmark.__name__.lower()}"
    try:
        parse(benchmark, name, sys.argv[1:]).run()
    except EXPECTED as error:
        sys.exit(f"{name}: {error}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
