"""rslwm bench data"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rslwm.bench.config import DataBenchConfig
from rslwm.cli.output import console, counting
from rslwm.compute import ComputeConfig


@dataclass
class Data:
    """Measure how fast clips come from stored latents on one core, against mp4 decoded and encoded for every clip.

    Writes its own videos and latents to a temporary folder. The encoder has random weights and the size of a ViT-L.

    For instance:
      rslwm bench data
      rslwm bench data --dtype float32 --encoded 4 --out runs/bench
      rslwm bench data --grid 8 --encoder.patch 32 --encoder.width 768 --encoder.depth 12 --encoder.heads 12
    """

    bench: Annotated[DataBenchConfig, tyro.conf.arg(name="")] = field(default_factory=DataBenchConfig)
    device: str = ComputeConfig.device
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "bfloat16", "float32"] = ComputeConfig.dtype
    """Precision of the encoder; auto is bfloat16 where the hardware is faster at it."""
    threads: int = 0
    """CPU threads for decoding and encoding; 0 is one a core."""
    out: Path | None = None
    """Folder for the JSON file; without it, there is only the table."""

    def run(self) -> None:
        from rslwm.bench.data import measure
        from rslwm.bench.machine import facts, use_threads
        from rslwm.bench.result import publish

        use_threads(self.threads)
        compute = ComputeConfig(self.device, self.dtype)
        with counting("episodes of footage", self.bench.episodes) as progress:
            comparisons = measure(self.bench, compute, progress)
        publish("data", comparisons, facts(compute), console(), self.out)
