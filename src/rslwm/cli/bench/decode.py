"""rslwm bench decode"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from rslwm.bench.config import DecodeBenchConfig
from rslwm.cli.output import console
from rslwm.compute import ComputeConfig


@dataclass
class Decode:
    """Measure decoding generated latents to pixels: in one batch against frame by frame, and leaving it out.

    For instance:
      rslwm bench decode
      rslwm bench decode --decoders sub-pixel --frames 40 --out runs/bench
      rslwm bench decode --size demo --grid 8 --channels 16 --image-size 64 --decoders sub-pixel
    """

    bench: Annotated[DecodeBenchConfig, tyro.conf.arg(name="")] = field(default_factory=DecodeBenchConfig)
    device: str = ComputeConfig.device
    """auto, cpu, cuda, cuda:1, mps."""
    threads: int = 0
    """CPU threads; 0 is one a core."""
    out: Path | None = None
    """Folder for the JSON file; without it, there is only the table."""

    def run(self) -> None:
        from rslwm.bench.decode import measure
        from rslwm.bench.machine import facts, use_threads
        from rslwm.bench.result import publish

        use_threads(self.threads)
        comparisons = []
        for compute in self.bench.precisions(self.device):
            comparisons += measure(self.bench, compute)
        publish("decode", comparisons, facts(compute), console(), self.out)
