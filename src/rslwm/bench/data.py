"""How fast clips come: from stored latents, against decoding video and encoding it for every clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from rslwm.bench.config import DataBenchConfig
from rslwm.bench.footage import SEED, Footage, write_footage
from rslwm.bench.result import Comparison, Measurement
from rslwm.bench.straightforward.encoder import ViT
from rslwm.bench.timing import Work, interleaved
from rslwm.compute import ComputeConfig, device, generator, peak_flops, precision, seeded


def measure(
    config: DataBenchConfig, compute: ComputeConfig, progress: Callable[[int], None] = lambda done: None
) -> list[Comparison]:
    """The store's feed on one core, against decoding and encoding, and against either alone, on all threads.

    The footage is written to a temporary folder and read before it counts: everything comes from the page cache.

    Args:
        progress: told the number of episodes written.
    """
    with TemporaryDirectory(prefix="rslwm-bench-") as folder:
        return _compare(write_footage(config, Path(folder), progress), config, compute)


def _compare(footage: Footage, config: DataBenchConfig, compute: ComputeConfig) -> list[Comparison]:
    where, dtype = device(compute), precision(compute)
    with seeded(SEED, "bench encoder"):
        encoder = ViT(config, dtype).to(where)
    drawn = generator(SEED, "bench clips")
    places = footage.windows[torch.randint(len(footage.windows), (config.encoded,), generator=drawn).numpy()]
    frames = footage.videos.decode(places)

    def feed() -> None:
        with _one_thread():
            for _ in range(config.batches):
                footage.clips.sample(footage.windows, config.batch, drawn)

    others: dict[str, tuple[Work, float]] = {
        "decode and encode": (lambda: footage.videos.latents(places, encoder), encoder.clip_flops),
        "decode alone": (lambda: footage.videos.decode(places), 0),
        "encode alone": (lambda: encoder.encode(frames.to(where)), encoder.clip_flops),
    }
    works = [feed, *(work for work, _ in others.values())]
    fed, *made = interleaved(works, config.rounds, label="feeds")
    stored = Measurement("stored latents, one core", fed, config.batches * config.batch, "clips")
    settings = {**asdict(config), "dtype": str(dtype).removeprefix("torch.")}
    comparisons = []
    for (name, (_, flops)), seconds in zip(others.items(), made, strict=True):
        other = Measurement(name, seconds, config.encoded, "clips", config.encoded * flops or None)
        pace = {"MB/s from the store": stored.rate * config.clip_bytes / 1e6}
        if "decode" in name:
            pace["MB/s of mp4"] = other.rate * footage.videos.clip_bytes / 1e6
        comparisons.append(
            Comparison(f"feed, {name}", settings, stored, other, peak=peak_flops(where, dtype), quality=pace)
        )
    return comparisons


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
