"""What all benchmarks have in common: each is a command whose fields are its flags."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from rich.table import Table

from rslwm.bench.machine import facts, use_threads
from rslwm.bench.result import publish, table
from rslwm.bench.runner import Case, measure
from rslwm.compute import ComputeConfig, device, peak_flops, precision


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
        use_threads(self.threads)
        machine = facts(self.compute)
        with TemporaryDirectory(prefix="rslwm-bench-") as folder:
            shown, found = self.measure(Path(folder))
        record = {"machine": machine, "settings": asdict(self), **found}
        publish(type(self).__name__.lower(), shown, record, self.out)
