"""What all benchmarks have in common: each is a command whose fields are its flags, and prints a table."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from rslwm.bench.measure import Case, Measurement, measure
from rslwm.compute import ComputeConfig, device, peak_flops, precision, processor
from rslwm.processes import cores

MB = 2**20
WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""
HEADINGS = ("a second", "ms each", "GFLOP/s", "of peak", "memory")


@dataclass
class Benchmark:
    """Speed on this machine, and what of its matrix-product peak that is."""

    rounds: int = 3
    """How often each piece of work is timed, after one run that doesn't count."""
    device: str = ComputeConfig.device
    """What computes: auto, cpu, cuda, cuda:1 or mps. auto is a GPU where there is one."""
    dtype: Literal["auto", "bfloat16", "float32"] = ComputeConfig.dtype
    """Precision of matrix products. auto is bfloat16 where the hardware is faster at it."""
    threads: int = 0
    """How many CPU threads compute. 0 is one a core."""
    out: Path | None = None
    """Folder that the JSON file is written to. Without it, there is only the table."""

    @property
    def compute(self) -> ComputeConfig:
        """How to compute."""
        return ComputeConfig(self.device, self.dtype)

    @property
    def where(self) -> torch.device:
        """Where to compute."""
        return device(self.compute)

    @property
    def peak(self) -> float:
        """Of the machine's matrix products, in FLOP/s."""
        return peak_flops(self.where, precision(self.compute))

    def cases(self, folder: Path) -> list[Case]:
        """What is measured; the folder is for files that it takes, and temporary."""
        raise NotImplementedError

    def measure(self, folder: Path) -> tuple[Table, dict[str, Any]]:
        """What was found, as a table and as JSON types."""
        found = measure(self.cases(folder), self.rounds)
        return table(found), {"measurements": [measurement.to_dict() for measurement in found]}

    def run(self) -> None:
        """Measure, print a table and what was measured on; with ``out``, also write a JSON file."""
        torch.set_num_threads(self.threads or cores())
        machine = facts(self.compute)
        with TemporaryDirectory(prefix="rslwm-bench-") as folder:
            shown, found = self.measure(Path(folder))
        record = {"machine": machine, "settings": asdict(self), **found}
        publish(type(self).__name__.removesuffix("Benchmark").lower(), shown, record, self.out)


def facts(compute: ComputeConfig) -> dict[str, Any]:
    """Processor, precision, threads, versions and load of this machine, as JSON types."""
    where = device(compute)
    return {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        "dtype": str(precision(compute)).removeprefix("torch."),
        "cpu": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "load": round(os.getloadavg()[0], 2),
    }


def empty_table(*headings: str) -> Table:
    """For rows of :func:`cells`, and more columns."""
    shown = Table("", box=None, header_style="dim", pad_edge=False)
    for heading in (*HEADINGS, *headings):
        shown.add_column(heading, justify="right", no_wrap=True)
    return shown


def cells(found: Measurement) -> tuple[str, ...]:
    """A row of a table, below an empty heading and :data:`HEADINGS`."""
    return (
        f"  {found.name}",
        f"{found.rate:.4g} {found.unit}",
        f"{1000 / found.rate:.4g}",
        f"{found.flop_rate / 1e9:.0f}" if found.flop_rate else "",
        f"{found.share_of_peak:.0%}" if found.share_of_peak else "",
        f"{found.peak_bytes / MB:.0f} MB" if found.peak_bytes is not None else "",
    )


def table(measurements: Iterable[Measurement]) -> Table:
    """A row each, with the range of its rates."""
    shown = empty_table("range")
    for found in measurements:
        shown.add_row(*cells(found), f"{min(found.rates):.4g} to {max(found.rates):.4g}")
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
