"""rslwm bench encode"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rslwm.bench.config import EncodeBenchConfig
from rslwm.cli.latents.named import EncoderCommand
from rslwm.cli.output import console
from rslwm.compute import ComputeConfig


@dataclass
class Encode(EncoderCommand):
    """Measure encoding, from frames and from store to store, against the bare network at the same batch size.

    A published encoder whose weights are missing gets random ones: its speed doesn't depend on them.

    For instance:
      rslwm bench encode web-dino
      rslwm bench encode sd3-vae --encoder.input-size 128 --batch 4 --out runs/bench
    """

    bench: Annotated[EncodeBenchConfig, tyro.conf.arg(name="")] = field(default_factory=EncodeBenchConfig)
    device: str = ComputeConfig.device
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "bfloat16", "float32"] = ComputeConfig.dtype
    """Precision of small encoders; published ones have theirs as a choice, web-dino[dtype=float32]."""
    threads: int = 0
    """CPU threads; 0 is one a core."""
    out: Path | None = None
    """Folder for the JSON file; without it, there is only the table."""

    def run(self) -> None:
        from rslwm.bench.encode import measure
        from rslwm.bench.machine import facts, use_threads
        from rslwm.bench.result import publish

        use_threads(self.threads)
        compute = ComputeConfig(self.device, self.dtype)
        publish("encode", measure(self.open(), self.bench, compute), facts(compute), console(), self.out)
