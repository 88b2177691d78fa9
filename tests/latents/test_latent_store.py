"""Latents of whole episodes, encoded once."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.latents.stored import encode_episodes, write_latents
from rslwm.latents.views import to_float
from rslwm.types import DataError


def mean_colour(stored: Tensor) -> Tensor:
    return to_float(stored).mean((2, 3), keepdim=True)


def test_every_episode_is_encoded_whole_whatever_the_batch(
    corpus: Corpus, compute: ComputeConfig, tmp_path: Path
) -> None:
    seen: list[int] = []

    def encode(stored: Tensor) -> Tensor:
        seen.append(stored.shape[1])
        return mean_colour(stored)

    store = encode_episodes(encode, corpus.frames, tmp_path, {}, compute, batch=5)
    assert max(seen) == 5
    assert store.keys == corpus.frames.keys
    for key in store.keys:
        expected = mean_colour(corpus.frames[key][None])[0].bfloat16()
        assert torch.equal(store[key], expected)


def test_a_finished_store_is_kept_and_one_of_something_else_refused(
    corpus: Corpus, compute: ComputeConfig, tmp_path: Path
) -> None:
    encode_episodes(mean_colour, corpus.frames, tmp_path, {"encoder": "a"}, compute)

    def never(stored: Tensor) -> Tensor:
        raise AssertionError("encoded again")

    assert isinstance(encode_episodes(never, corpus.frames, tmp_path, {"encoder": "a"}, compute), TensorStore)
    with pytest.raises(DataError, match=r"meta 'encoder' is 'a' there and 'b' here"):
        encode_episodes(mean_colour, corpus.frames, tmp_path, {"encoder": "b"}, compute)


def test_progress_ends_at_the_number_of_episodes(corpus: Corpus, compute: ComputeConfig, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    encode_episodes(
        mean_colour, corpus.frames, tmp_path, {}, compute, lambda done, total, _: calls.append((done, total))
    )
    assert calls == [(n, 12) for n in range(1, 13)]


def test_an_interruption_loses_the_shard_that_was_being_filled(tmp_path: Path) -> None:
    keys, shape = [f"e{i}" for i in range(7)], (4, 2, 2, 8)
    two = 2 * 2 * math.prod(shape)  # bytes of two episodes
    asked: list[list[str]] = []

    def latents(wanted: list[str], stop: str = "") -> Iterator[Tensor]:
        asked.append(wanted)
        for key in wanted:
            if key == stop:
                raise KeyboardInterrupt
            yield torch.full(shape, float(key[1:])).bfloat16()

    with pytest.raises(KeyboardInterrupt):
        write_latents(lambda wanted: latents(wanted, "e5"), keys, tmp_path / "cut", {}, shard_bytes=two)
    cut = write_latents(latents, keys, tmp_path / "cut", {}, shard_bytes=two)
    whole = write_latents(latents, keys, tmp_path / "whole", {}, shard_bytes=two)
    assert asked == [keys, ["e4", "e5", "e6"], keys]
    files = sorted(path.name for path in whole.root.glob("*.safetensors"))
    assert len(files) == 4
    assert all((cut.root / name).read_bytes() == (whole.root / name).read_bytes() for name in files)
