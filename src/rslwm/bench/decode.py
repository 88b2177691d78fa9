"""How fast latents become pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rslwm.bench.runner import Case, cast
from rslwm.bench.world_model import SEED, LatentsBenchmark
from rslwm.compute import generator, seeded
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, TrainedDecoder, open_decoder
from rslwm.serialisation import from_dict


@dataclass
class Decode(LatentsBenchmark):
    """Measure how fast pixel decoders with random weights turn latents into frames.

    For instance:
      rslwm bench decode --frames 40 --out runs/bench
      rslwm bench decode --grid 8 --channels 16 --image-size 64 --decoders sub-pixel
    """

    decoders: tuple[str, ...] = ("sub-pixel", "ldm")
    """Which pixel decoders are measured: sub-pixel, the small one that comparisons train, and ldm, the paper's."""
    image_size: int = 256
    """How many pixels a side of a frame has."""
    frames: int = 8
    """How many frames a clip has."""
    batch: int = 1
    """How many clips are decoded at once."""

    def cases(self, folder: Path) -> list[Case]:
        """Raises :class:`ConfigError` if there is no such decoder."""
        return [self.decoding(self.decodable(kind), kind) for kind in self.decoders]

    def decodable(self, kind: str) -> LatentSpace:
        """A latent space with a pixel decoder."""
        space = self.space(self.image_size)
        config = from_dict(DecoderConfig, {"kind": kind}, "decoders")
        with seeded(SEED, f"bench {kind} decoder"):
            space.set_pixels(TrainedDecoder(open_decoder(config, space.spec, self.image_size)))
        return space.to(self.where).eval()

    def clips(self) -> Tensor:
        """The latents that are decoded."""
        return self.latents(self.batch, self.frames, generator(SEED, "bench decode")).to(self.where)

    def decoding(self, space: LatentSpace, kind: str) -> Case:
        """A batch of the space's latents."""
        latents = self.clips()
        with FlopCounterMode(display=False) as counter:
            cast(partial(space.decode, latents[:1, :1]), self.compute)()
        made, work = self.batch * self.frames, cast(partial(space.decode, latents), self.compute)
        return Case(f"{kind} decoder", work, made, "frames", float(made * counter.get_total_flops()), self.peak)
