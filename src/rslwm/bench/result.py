"""What a benchmark found, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

MB = 2**20
WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""
HEADINGS = ("a second", "ms each", "GFLOP/s", "of peak", "memory")


@dataclass(frozen=True)
class Measurement:
    """Runs of one piece of work."""

    name: str
    seconds: list[float]
    """Of every run, in order."""
    items: float
    """What one run makes, in ``unit``."""
    unit: str
    """Plural: frames, clips, plans."""
    flops: float | None = None
    """Floating-point operations of one run, two a multiply-add."""
    peak: float | None = None
    """Measured matrix-product peak of the machine in FLOP/s, in the precision of the work."""
    peak_bytes: int | None = None
    """Memory at the peak of a run, beyond what it starts from."""

    @property
    def rate(self) -> float:
        """Items a second, in the median run."""
        return self.items / median(self.seconds)

    @property
    def rates(self) -> list[float]:
        """Items a second, run by run."""
        return [self.items / seconds for seconds in self.seconds]

    @property
    def flop_rate(self) -> float | None:
        """FLOP/s in the median run."""
        return self.flops / median(self.seconds) if self.flops else None

    @property
    def share_of_peak(self) -> float | None:
        """The same as a share of the machine's peak."""
        return self.flop_rate / self.peak if self.flop_rate and self.peak else None

    def to_dict(self) -> dict[str, Any]:
        """The fields, and what follows from them for whoever reads the file without this package."""
        return {**asdict(self), "rate": self.rate, "share_of_peak": self.share_of_peak}

    def cells(self) -> tuple[str, ...]:
        """A row of a table, below an empty heading and :data:`HEADINGS`."""
        return (
            f"  {self.name}",
            f"{self.rate:.4g} {self.unit}",
            f"{1000 / self.rate:.4g}",
            f"{self.flop_rate / 1e9:.0f}" if self.flop_rate else "",
            f"{self.share_of_peak:.0%}" if self.share_of_peak else "",
            f"{self.peak_bytes / MB:.0f} MB" if self.peak_bytes is not None else "",
        )


def empty_table(*headings: str) -> Table:
    """For rows of :meth:`Measurement.cells`, and more columns."""
    shown = Table("", box=None, header_style="dim", pad_edge=False)
    for heading in (*HEADINGS, *headings):
        shown.add_column(heading, justify="right", no_wrap=True)
    return shown


def table(measurements: Iterable[Measurement]) -> Table:
    """A row each, with the range of its rates."""
    shown = empty_table("range")
    for found in measurements:
        shown.add_row(*found.cells(), f"{min(found.rates):.4g} to {max(found.rates):.4g}")
    return shown


def publish(name: str, shown: Table, record: dict[str, Any], out: Path | None = None) -> None:
    """Print a table and the ``machine`` of the record; with ``out`` also write the record to ``name.json`` there."""
    machine = "{device}, {cpu}, {threads} threads, {dtype}, torch {torch}; load average {load}"
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(shown)
    console.print(machine.format(**record["machine"]), style="dim", markup=False, highlight=False)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(json.dumps({"benchmark": name, **record}, indent=1, default=str) + "\n")
        console.print(f"{out / name}.json", markup=False, highlight=False)
