"""Files of tensors: the permissions that the process gives to every new file, and packed ones."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rslwm.tensors import PACKED, load_weights, read_weights, write_packed, write_tensors
from rslwm.types import DataError


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


# ------------------------------------------------------------------------------------------------------------- packed


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.Flatten(), torch.nn.Linear(64, 128))


def test_packed_weights_take_a_quarter_and_come_back_to_a_hundredth(network: torch.nn.Module, tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.safetensors", tmp_path / "packed.safetensors"
    write_tensors(network.state_dict(), plain)
    write_packed(network.state_dict(), packed)
    assert packed.stat().st_size < 0.31 * plain.stat().st_size
    for name, found in read_weights(packed).items():
        expected = network.state_dict()[name]
        assert found.dtype == torch.float32
        assert (found - expected).norm() < 0.01 * expected.norm()


def test_packed_weights_load_strictly(network: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_packed({**network.state_dict(), "stowaway": torch.ones(2, 2)}, path)
    with pytest.raises(DataError, match="unexpected tensor 'stowaway'"):
        load_weights(network, path)
    write_packed({name: x for name, x in network.state_dict().items() if name != "2.weight"}, path)
    with pytest.raises(DataError, match=r"tensor '2\.weight' is missing"):
        load_weights(network, path)


@pytest.mark.parametrize("damage", [lambda x: {}, lambda x: {"2.weight.scale": x[:-1]}])
def test_a_matrix_without_its_scales_is_refused(
    damage: Callable[[torch.Tensor], dict[str, torch.Tensor]], network: torch.nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    write_packed(network.state_dict(), path)
    tensors = load_file(path)
    scale = tensors.pop("2.weight.scale")
    save_file({**tensors, **damage(scale)}, path, PACKED)
    with pytest.raises(DataError, match=r"tensor '2\.weight' lacks a scale for each of its rows"):
        read_weights(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e6])
def test_numbers_that_can_t_be_packed_are_refused(number: float, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tensor 'x' has numbers that can't be packed"):
        write_packed({"x": torch.tensor([number])}, tmp_path / "x.safetensors")


def test_rows_of_zeros_and_whole_numbers_are_kept(tmp_path: Path) -> None:
    tensors = {"zero": torch.zeros(3, 4), "ids": torch.arange(5), "one": torch.full((1, 4), 0.5)}
    write_packed(tensors, tmp_path / "x.safetensors")
    found = read_weights(tmp_path / "x.safetensors")
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_small_integers_of_other_files_are_left_alone(tmp_path: Path) -> None:
    write_tensors({"x": torch.ones(2, 2, dtype=torch.int8)}, tmp_path / "x.safetensors")
    assert read_weights(tmp_path / "x.safetensors")["x"].dtype == torch.int8
