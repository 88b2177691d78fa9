"""How fast frames become stored latents, against the bare network on images that are ready for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from benchmarks.comparison import Comparison, Paired, main
from rslwm.bench.latents import Encodings
from rslwm.bench.measure import Work, measure
from rslwm.cli.latents import EncodeBenchmark
from rslwm.latents.base import Encoder
from rslwm.latents.published.base import PublishedEncoder


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
        bare = encodings.case("bare network", bare_work(encodings.encoder, encodings.ready))
        *ours, network = measure([*encodings.cases(folder), bare], self.rounds)
        return [Comparison(found.name, found, network) for found in ours]


def bare_work(encoder: Encoder, frames: Sequence[Tensor]) -> Work:
    """The network's own work on each of (B, T, H, W, 3), all that comes before it done already."""
    if not isinstance(encoder, PublishedEncoder):
        return lambda: [encoder.encode(x) for x in frames]
    network = encoder.network(frames[0].device)
    images = [encoder.preprocessing(rearrange(x, "B T H W c -> (B T) H W c"), encoder.network_dtype) for x in frames]
    run = torch.autocast(images[0].device.type, enabled=False)(encoder.features)
    return lambda: [run(network, batch) for batch in images]


if __name__ == "__main__":
    main(Encode)
