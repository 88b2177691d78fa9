"""How fast frames become stored latents, against the bare network on images that are ready for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from rslwm.bench.config import EncodeBenchConfig, FootageConfig
from rslwm.bench.footage import moving_picture
from rslwm.bench.result import Comparison, Measurement
from rslwm.bench.timing import Work, interleaved
from rslwm.compute import ComputeConfig, autocast, device, peak_flops, precision
from rslwm.data.store import TensorStore
from rslwm.latents.base import Encoder
from rslwm.latents.store import encode_episodes, to_float


def measure(encoder: Encoder, config: EncodeBenchConfig, compute: ComputeConfig) -> list[Comparison]:
    """Two comparisons with the bare network at the same batch size: encoding float frames, and encoding the episodes of
    a store of frames into a store of latents, reading and writing included.

    A published network has the weights that were found, else random ones. The bare network of another encoder is its
    own encoding of frames that are on the device.
    """
    where, random = device(compute), encoder.stand_in()
    encoder = encoder.to(where).eval()
    footage = FootageConfig(image_size=encoder.image_size, length=config.batch)
    episodes = [torch.from_numpy(moving_picture(footage, i)) for i in range(config.episodes)]
    ready = [to_float(frames)[None].to(where) for frames in episodes]
    with TemporaryDirectory(prefix="rslwm-bench-") as folder:
        written = _Written(encoder, episodes, Path(folder), compute)
        works: list[Work] = [_cast(lambda: [encoder.encode(frames) for frames in ready], compute), written.again]
        works.append(_cast(encoder.bare_work(ready), compute))
        alone, stored, bare = interleaved(works, config.rounds, label=encoder.spec.name)
    frames = config.batch * config.episodes
    flops = float(frames * encoder.flops()[0])

    def measured(name: str, seconds: list[float]) -> Measurement:
        return Measurement(name, seconds, frames, "frames", flops)

    dtype = encoder.network_dtype or precision(compute)
    settings: dict[str, Any] = {
        **asdict(config),
        "encoder": encoder.spec.to_dict(),
        "dtype": str(dtype).removeprefix("torch."),
    }
    title, peak = f"{encoder.spec.name}{' with random weights' * random}", peak_flops(where, dtype)
    network = measured("bare network", bare)
    return [
        Comparison(f"{title}, {what}", settings, measured(name, seconds), network, peak=peak)
        for what, name, seconds in (
            ("from frames", "encode", alone),
            ("from store to store", "encode, read and write", stored),
        )
    ]


class _Written:
    """The same episodes encoded into a new store whenever it is asked for."""

    def __init__(self, encoder: Encoder, episodes: list[Tensor], folder: Path, compute: ComputeConfig) -> None:
        self.encoder, self.folder, self.compute, self.count = encoder, folder, compute, 0
        items = ((f"episode-{i:03d}", frames) for i, frames in enumerate(episodes))
        self.frames = TensorStore.write(folder / "frames", items, {"of": "made-up footage"})

    def again(self) -> TensorStore:
        self.count += 1
        root = self.folder / f"latents-{self.count}"
        return encode_episodes(
            lambda stored: self.encoder.encode(to_float(stored)), self.frames, root, {}, self.compute
        )


def _cast(work: Callable[[], object], compute: ComputeConfig) -> Work:
    @torch.no_grad()
    def run() -> object:
        with autocast(compute):
            return work()

    return run
