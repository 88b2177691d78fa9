"""How fast frames become stored latents, against the bare network on images that are ready for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.comparison import Comparison, Paired, main
from rslwm.bench.latents import Encodings
from rslwm.bench.measure import measure
from rslwm.cli.latents import EncodeBenchmark


@dataclass
class Encode(EncodeBenchmark, Paired):
    """Pair encoding, from frames and from store to store, with the bare network at the same batch size.

    A published encoder whose weights are missing gets random ones: its speed doesn't depend on them. The bare network
    of one that isn't published is its own encoding of frames that are on the device.

    For instance:
      python -m benchmarks.encode web-dino
      python -m benchmarks.encode sd3-vae --encoder.input-size 128 --batch 4 --out runs/bench
    """

    rounds: int = 5
    """How often each is timed. The ratio is the median over their pairs."""

    def compare(self, folder: Path) -> list[Comparison]:
        """Float frames, and the episodes of a store of frames into a store of latents."""
        encodings = Encodings(self, self.open())
        bare = encodings.case("bare network", encodings.encoder.bare_work(encodings.ready))
        *ours, network = measure([*encodings.cases(folder), bare], self.rounds)
        return [Comparison(found.name, found, network) for found in ours]


if __name__ == "__main__":
    main(Encode)
