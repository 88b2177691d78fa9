"""What a benchmark found: two measurements side by side, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

from rich.console import Console
from rich.table import Table

MB = 2**20


@dataclass(frozen=True)
class Measurement:
    """Runs of one implementation."""

    name: str
    seconds: list[float]
    """Of every run, in order."""
    items: float
    """What one run makes, in ``unit``."""
    unit: str
    """Plural: frames, clips, plans."""
    flops: float | None = None
    """Floating-point operations of one run, two a multiply-add."""
    peak_bytes: int | None = None
    """Memory at the peak of a run, beyond what it starts from."""

    @property
    def rate(self) -> float:
        """Items a second, in the median run."""
        return self.items / median(self.seconds)

    @property
    def flop_rate(self) -> float | None:
        """FLOP/s in the median run."""
        return self.flops / median(self.seconds) if self.flops else None


@dataclass(frozen=True)
class Comparison:
    """Two implementations of the same work, measured in pairs."""

    title: str
    settings: dict[str, Any]
    """Of JSON types; everything that says what was computed."""
    ours: Measurement
    baseline: Measurement
    bound: float | None = None
    """The ratio that counting the work allows, were every operation equally fast on both sides."""
    peak: float | None = None
    """Measured matrix-product peak in FLOP/s, in the precision of ours."""
    baseline_peak: float | None = None
    """The same in the baseline's precision, where that is another."""
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
        share = self.ours.items / self.baseline.items
        pairs = zip(self.ours.seconds, self.baseline.seconds, strict=True)
        return [share * baseline / ours for ours, baseline in pairs]

    @property
    def ratio(self) -> float:
        """The median of :attr:`ratios`."""
        return median(self.ratios)

    def share(self, measurement: Measurement) -> float | None:
        """FLOP/s of one of the two, as a share of the matrix-product peak."""
        rate, peak = measurement.flop_rate, self.peak
        if measurement is self.baseline and self.baseline_peak:
            peak = self.baseline_peak
        return rate / peak if rate and peak else None

    def to_dict(self) -> dict[str, Any]:
        """The fields, and what follows from them for whoever reads the file without this package."""
        summary = {"ratio": self.ratio, "ratio_range": [min(self.ratios), max(self.ratios)]}
        shares = {"ours": self.share(self.ours), "baseline": self.share(self.baseline)}
        return {**asdict(self), "summary": {**summary, "share_of_peak": shares}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        fields = {k: v for k, v in values.items() if k != "summary"}
        sides = {side: Measurement(**fields[side]) for side in ("ours", "baseline")}
        return cls(**{**fields, **sides})


def publish(
    name: str, comparisons: Sequence[Comparison], machine: dict[str, Any], console: Console, out: Path | None = None
) -> None:
    """Print a table; with ``out`` also write ``name.json`` there."""
    console.print(table(comparisons))
    for comparison in comparisons:
        for what, value in (comparison.quality or {}).items():
            console.print(f"{comparison.title}, {what}: {_text(value)}", markup=False, highlight=False)
    where = "{device}, {cpu}, {threads} threads, torch {torch}; load average {load}".format(**machine)
    console.print(where, style="dim", markup=False, highlight=False)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    record = {"benchmark": name, "machine": machine, "comparisons": [c.to_dict() for c in comparisons]}
    (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    console.print(f"{out / name}.json", markup=False, highlight=False)


def load(path: Path) -> list[Comparison]:
    """The comparisons that :func:`publish` has written to a JSON file."""
    return [Comparison.from_dict(values) for values in json.loads(path.read_text())["comparisons"]]


def table(comparisons: Sequence[Comparison]) -> Table:
    """Two rows a comparison: ours, and what it is compared with."""
    shown = Table(box=None, header_style="dim", pad_edge=False)
    shown.add_column("")
    for heading in ("a second", "ms each", "GFLOP/s", "of peak", "memory", "faster", "range", "bound"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for comparison in comparisons:
        low, high = min(comparison.ratios), max(comparison.ratios)
        bound = f"{comparison.bound:.2f}x" if comparison.bound else ""
        shown.add_row(f"[bold]{comparison.title}[/]")
        faster = (f"[bold]{comparison.ratio:.2f}x[/]", f"{low:.2f} to {high:.2f}", bound)
        shown.add_row(*_cells(comparison, comparison.ours), *faster)
        shown.add_row(*_cells(comparison, comparison.baseline))
    return shown


def _cells(comparison: Comparison, measurement: Measurement) -> tuple[str, ...]:
    flop_rate, share = measurement.flop_rate, comparison.share(measurement)
    return (
        f"  {measurement.name}",
        f"{measurement.rate:.4g} {measurement.unit}",
        f"{1000 / measurement.rate:.4g}",
        f"{flop_rate / 1e9:.0f}" if flop_rate else "",
        f"{share:.0%}" if share else "",
        f"{measurement.peak_bytes / MB:.0f} MB" if measurement.peak_bytes is not None else "",
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
