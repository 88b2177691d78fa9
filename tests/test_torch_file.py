"""Files of torch.save are read as data; what is no data is refused with the file's name."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rslwm.tensors import read_tensors, tensors_in
from rslwm.types import DataError

TENSORS = {"a": torch.arange(1000.0), "b": torch.ones(2, 3)}


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_numbers_and_dictionaries_come_back(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    torch.save({"state_dict": TENSORS, "epoch": 3}, file, _use_new_zipfile_serialization=zipped)
    content = read_tensors(file)
    assert content["epoch"] == 3
    assert all(torch.equal(content["state_dict"][name], x) for name, x in TENSORS.items())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_file_is_refused(zipped: bool, share: float, tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    torch.save(TENSORS, file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(DataError, match=r"x\.pt is truncated or not a file of torch\.save"):
        read_tensors(file)


@pytest.mark.parametrize("content", [b"<html>404</html>", b"version https://git-lfs", bytes(1000), pickle.dumps(3, 2)])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.pt is .*not a file of torch\.save"):
        read_tensors(file)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_safetensors_are_no_file_of_torch_save(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x\.pt is .*not a file of torch\.save"):
        read_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_never_run(zipped: bool, tmp_path: Path) -> None:
    file, made = tmp_path / "x.pt", tmp_path / "made"
    torch.save(TENSORS | {"c": Code(made)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"x\.pt would run code: its pickle asks for posix\.mkdir"):
        read_tensors(file)
    assert not made.exists()
    torch.load(file, weights_only=False)
    assert made.exists()  # the trap works


def test_code_in_a_bare_pickle_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(pickle.dumps(Code(tmp_path / "made"), 2))
    with pytest.raises(DataError, match=r"x\.pt would run code: its pickle asks for posix\.mkdir"):
        read_tensors(tmp_path / "x.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*TorchScript:UserWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x\.pt .*TorchScript"):
        read_tensors(tmp_path / "x.pt")


def test_something_else_than_a_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save([TENSORS["a"]], tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x\.pt holds a list, expected a dictionary"):
        read_tensors(tmp_path / "x.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.pt does not exist"):
        read_tensors(tmp_path / "nowhere.pt")


def test_entries_are_chosen_by_the_start_of_their_names() -> None:
    content = {"a.x": TENSORS["a"], "b.a.x": TENSORS["b"], "epoch": 3}
    assert list(tensors_in(content, Path("x.pt"), ("a.", "c."))) == ["a.x"]


def test_a_chosen_entry_that_is_no_tensor_is_named() -> None:
    with pytest.raises(DataError, match=r"x\.pt: 'a\.n' is a int, expected a tensor"):
        tensors_in({"a.x": TENSORS["a"], "a.n": 3}, Path("x.pt"), ("a.",))
