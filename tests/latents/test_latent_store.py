"""Latents of whole episodes, encoded once."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rslwm.config import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.latents.store import encode_episodes, to_float
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
