"""What a stage leaves of its latents: stored or, as if they were, made when they are read."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, generator
from rslwm.data.store import TensorStore
from rslwm.latents import stored
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.latents.stored import SPACE, STORE, StreamedTensors, encode_episodes, leave_latents, open_latents
from rslwm.latents.views import to_float
from rslwm.types import DataError

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


@torch.no_grad()
def test_whoever_opens_them_does_not_see_whether_they_are_stored(
    views: TensorStore, space: LatentSpace, tmp_path: Path
) -> None:
    leave_latents(tmp_path / "stored", space, views, COMPUTE)
    leave_latents(tmp_path / "streamed", space, views, COMPUTE, streamed=True)
    stored, streamed = (open_latents(tmp_path / name, views, COMPUTE) for name in ("stored", "streamed"))
    assert not (tmp_path / "streamed" / STORE).exists()
    assert all(torch.equal(stored[key], streamed[key]) for key in views.keys)
    features = space.features(views["a"][None])[0]
    assert torch.equal(stored["a"], features.bfloat16())  # nobody has fitted the normaliser
    assert LatentSpace.load(tmp_path / "stored" / SPACE).spec == space.spec


FRAMES, BYTES = 7, 3 * 8 * 8 * 16 * 2
"""Frames of the fixture's episodes, and bytes of their latents on a grid of 8 x 8 with three times 16 channels."""


@pytest.fixture
def views(tmp_path: Path) -> TensorStore:
    items = [(key, torch.zeros(n, 64, 192, 3, dtype=torch.uint8)) for key, n in {"a": 3, "b": 4}.items()]
    return TensorStore.write(tmp_path / "frames", items, {})


@pytest.fixture
def space() -> LatentSpace:
    return LatentSpace(SpaceConfig("small-vae", image_size=64, views=3))


def test_it_is_said_what_storing_takes(
    views: TensorStore, space: LatentSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_latents(tmp_path, space, views, COMPUTE)
    assert f"{FRAMES} frames of {BYTES:,} bytes are 43.0 kB" in capsys.readouterr().out
    leave_latents(tmp_path, space, views, COMPUTE, streamed=True)
    assert "43.0 kB: not stored, but encoded whenever they are read" in capsys.readouterr().out


def test_what_does_not_fit_is_refused_with_a_way_out(
    views: TensorStore, space: LatentSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "free_bytes", lambda folder: FRAMES * BYTES - 1)
    with pytest.raises(DataError, match=r"need 43\.0 kB, but its disk has 43\.0 kB free.*--stream-above-kb"):
        leave_latents(tmp_path, space, views, COMPUTE)
    leave_latents(tmp_path, space, views, COMPUTE, streamed=True)
