"""What is said, and what is refused, before features or latents are stored."""

from pathlib import Path

import pytest
import torch

from rslwm.data.store import TensorStore
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.study import stored
from rslwm.types import DataError

FRAMES, BYTES = 7, 3 * 8 * 8 * 16 * 2
"""Frames of the fixture's episodes, and bytes of their latents on a grid of 8 x 8 with three times 16 channels."""


@pytest.fixture
def frames(tmp_path: Path) -> TensorStore:
    items = [(key, torch.zeros(n, 64, 192, 3, dtype=torch.uint8)) for key, n in {"a": 3, "b": 4}.items()]
    return TensorStore.write(tmp_path / "frames", items, {})


@pytest.fixture
def space() -> LatentSpace:
    return LatentSpace(SpaceConfig("small-vae", image_size=64, views=3))


def test_it_is_said_what_storing_takes(
    frames: TensorStore, space: LatentSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stored.keep(tmp_path, space, frames, streamed=False)
    assert f"{FRAMES} frames of {BYTES:,} bytes are 43.0 kB" in capsys.readouterr().out
    assert not stored.keep(tmp_path, space, frames, streamed=True)
    assert "43.0 kB: not stored, but encoded whenever they are read" in capsys.readouterr().out


def test_what_does_not_fit_is_refused_with_a_way_out(
    frames: TensorStore, space: LatentSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "free_bytes", lambda folder: FRAMES * BYTES - 1)
    with pytest.raises(DataError, match=r"need 43\.0 kB, but its disk has 43\.0 kB free.*--stream-above-kb"):
        stored.keep(tmp_path, space, frames, streamed=False)
    assert not stored.keep(tmp_path, space, frames, streamed=True)
