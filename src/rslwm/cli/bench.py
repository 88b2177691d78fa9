"""rslwm bench encode: the one benchmark that names an encoder as other commands do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rslwm.bench.encode import EncoderBenchmark, Encodings
from rslwm.bench.runner import Case
from rslwm.cli.latents import EncoderCommand


@dataclass
class Encode(EncoderBenchmark, EncoderCommand):
    """Measure how fast an encoder makes latents, from frames and from store to store.

    A published encoder whose weights are missing gets random ones: its speed doesn't depend on them. Its precision is
    one of its choices, web-dino[dtype=float32], and not --dtype.

    For instance:
      rslwm bench encode web-dino
      rslwm bench encode sd3-vae --encoder.input-size 128 --batch 4 --out runs/bench
    """

    def cases(self, folder: Path) -> list[Case]:
        return Encodings(self, self.open()).cases(folder)
