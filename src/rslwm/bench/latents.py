"""How fast frames become latents, and latents frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rslwm.bench.benchmark import Benchmark
from rslwm.bench.measure import Case, Work, cast
from rslwm.bench.world_model import SEED, LatentsBenchmark
from rslwm.compute import generator, peak_flops, precision, seeded
from rslwm.data.store import TensorStore
from rslwm.latents.base import Encoder
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, TrainedDecoder, open_decoder
from rslwm.latents.stored import encode_episodes
from rslwm.latents.views import to_float
from rslwm.serialisation import from_dict


@dataclass
class EncoderBenchmark(Benchmark):
    """A benchmark of an encoder; a published one has random weights where its own are missing."""

    batch: int = 8
    """How many frames an episode has, which are encoded at once."""
    episodes: int = 2
    """How many episodes are encoded in a round."""


class Encodings:
    """An encoder, and episodes of noise."""

    def __init__(self, bench: EncoderBenchmark, encoder: Encoder) -> None:
        self.bench, self.name = bench, encoder.spec.name + " with random weights" * encoder.stand_in()
        self.encoder = encoder.to(bench.where).eval()
        shape = (bench.batch, encoder.image_size, encoder.image_size, 3)
        drawn = [generator(SEED, "bench frames", i) for i in range(bench.episodes)]
        self.episodes = [torch.randint(0, 256, shape, generator=g, dtype=torch.uint8) for g in drawn]
        self.ready = [to_float(frames)[None].to(bench.where) for frames in self.episodes]

    def cases(self, folder: Path) -> list[Case]:
        """From float frames, and from a store of frames to a store of latents, reading and writing included."""
        items = ((f"episode-{i:03d}", frames) for i, frames in enumerate(self.episodes))
        stored, numbers = TensorStore.write(folder / "frames", items, {"of": "made-up frames"}), count()

        def written() -> TensorStore:
            root = folder / f"latents-{next(numbers)}"
            return encode_episodes(lambda x: self.encoder.encode(to_float(x)), stored, root, {}, self.bench.compute)

        def alone() -> None:
            for frames in self.ready:
                self.encoder.encode(frames)

        return [self.case("from frames", alone), self.case("from store to store", written)]

    def case(self, name: str, work: Work) -> Case:
        """Work on all the episodes."""
        bench = self.bench
        frames, dtype = bench.batch * bench.episodes, self.encoder.network_dtype or precision(bench.compute)
        flops, peak = float(frames * self.encoder.flops()[0]), peak_flops(bench.where, dtype)
        return Case(f"{self.name}, {name}", cast(work, bench.compute), frames, "frames", flops, peak)


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
