"""How fast clips come: from stored latents, against decoding video and encoding it for every clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.comparison import Comparison, Paired, main
from benchmarks.video import VideoBenchmark
from rslwm.bench import training
from rslwm.bench.measure import Case, Work, measure
from rslwm.bench.world_model import SEED
from rslwm.compute import generator


@dataclass
class Data(training.Data, VideoBenchmark, Paired):
    """Pair clips from stored latents, on one core, with mp4 that is decoded and encoded for every clip.

    Writes its own videos and latents to a temporary folder. The encoder has random weights and the size of a ViT-L.

    For instance:
      python -m benchmarks.data --dtype float32 --encoded 4 --out runs/bench
      python -m benchmarks.data --grid 8 --encoder.patch 32 --encoder.width 768 --encoder.depth 12 --encoder.heads 12
    """

    encoded: int = 1
    """How many clips are decoded and encoded in a round."""

    def compare(self, folder: Path) -> list[Comparison]:
        """The store's feed on one core, against decoding and encoding, and against either alone, on all threads."""
        encoder, clips, videos = self.vit(), self.clips(folder), self.videos(folder)
        windows, drawn = clips.windows(range(self.episodes)), generator(SEED, "bench clips")
        places = windows[torch.randint(len(windows), (self.encoded,), generator=drawn).numpy()]
        frames, flops = videos.decode(places), self.encoded * self.frames * encoder.frame_flops

        def case(name: str, work: Work, flops: float | None) -> Case:
            return Case(name, work, self.encoded, "clips", flops, self.peak)

        others = [
            case("decode and encode", lambda: videos.latents(places, encoder), flops),
            case("decode alone", lambda: videos.decode(places), None),
            case("encode alone", lambda: encoder.encode(frames.to(self.where)), flops),
        ]
        stored, *made = measure([self.feed(clips), *others], self.rounds)
        return [Comparison(f"feed, {other.name}", stored, other) for other in made]


if __name__ == "__main__":
    main(Data)
