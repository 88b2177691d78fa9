"""Latents that are made when they are read are those that a store would hold."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, generator
from rslwm.data.store import TensorStore
from rslwm.latents.store import encode_episodes, to_float
from rslwm.latents.streaming import StreamedTensors

COMPUTE = ComputeConfig(device="cpu", dtype="float32")
LENGTHS = {"a": 9, "b": 6}


def encode(stored: Tensor) -> Tensor:
    """Means of 4 px patches, and their squares."""
    means = to_float(stored).unflatten(2, (2, 4)).unflatten(4, (2, 4)).mean((3, 5))
    return torch.cat([means, means.square()], -1)


@pytest.fixture
def frames(tmp_path: Path) -> TensorStore:
    g = generator(0, "frames")
    items = [(key, torch.randint(256, (n, 8, 8, 3), generator=g, dtype=torch.uint8)) for key, n in LENGTHS.items()]
    return TensorStore.write(tmp_path / "frames", items, {"of": "noise"})


def test_they_are_what_the_store_holds(frames: TensorStore, tmp_path: Path) -> None:
    stored = encode_episodes(encode, frames, tmp_path / "latents", {}, COMPUTE)
    streamed = StreamedTensors(encode, frames, (2, 2, 6), COMPUTE)
    assert streamed.keys == stored.keys
    for key in stored.keys:
        assert streamed.shape(key) == stored.shape(key)
        assert torch.equal(streamed[key], stored[key])
    places = [("b", range(0, 5, 2)), ("a", range(2, 7, 2)), ("a", range(3))]
    assert torch.equal(streamed.read(places), stored.read(places))
    assert streamed.read(places).dtype == torch.bfloat16


def test_only_what_is_read_is_encoded(frames: TensorStore) -> None:
    counted = []

    def counting(stored: Tensor) -> Tensor:
        counted.append(stored.shape[1])
        return encode(stored)

    StreamedTensors(counting, frames, (2, 2, 6), COMPUTE).read([("a", range(4, 6)), ("b", range(1, 3))])
    assert sum(counted) == 4


def test_reading_leaves_no_gradient(frames: TensorStore) -> None:
    weight = torch.ones((), requires_grad=True)
    streamed = StreamedTensors(lambda stored: weight * encode(stored), frames, (2, 2, 6), COMPUTE)
    assert not streamed.read([("a", range(1))]).requires_grad
