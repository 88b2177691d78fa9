"""Files of tensors have the permissions that the process gives to every new file."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from rslwm.tensors import load_weights, write_tensors


@pytest.fixture
def set_umask() -> Iterator[Callable[[int], int]]:
    """Sets it until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_the_umask_says_who_can_read_a_file(
    umask: int, expected: int, tmp_path: Path, set_umask: Callable[[int], int]
) -> None:
    set_umask(umask)
    write_tensors({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert mode(tmp_path / "x.safetensors") == expected


def test_writing_again_keeps_the_permissions_that_somebody_chose(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors({"x": torch.zeros(1)}, path)
    path.chmod(0o640)
    write_tensors({"x": torch.ones(1)}, path)
    assert mode(path) == 0o640


def test_what_is_written_comes_back_whatever_its_layout(tmp_path: Path) -> None:
    written, read = torch.nn.Conv2d(3, 5, 3), torch.nn.Conv2d(3, 5, 3)
    written.to(memory_format=torch.channels_last)
    write_tensors(written.state_dict(), tmp_path / "x.safetensors", {"note": "why"})
    load_weights(read, tmp_path / "x.safetensors")
    assert torch.equal(read.weight, written.weight)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"note": "why"}
