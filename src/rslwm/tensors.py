"""Files of tensors: written for everyone who may read the folder, loaded strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rslwm.types import DataError


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions that a new file gets in this process."""
    path.touch()
    mode = path.stat().st_mode  # safetensors puts a file of its own in place, which nobody but its owner may read
    save_file({name: x.detach().contiguous() for name, x in tensors.items()}, path, metadata)
    path.chmod(mode)


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into a module, strictly.

    Raises:
        DataError: names the file and the first tensor that is missing, extra or of another shape.
    """
    take_weights(module, read_weights(path), path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        DataError: it isn't there, or can't be read.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except SafetensorError as error:
        raise DataError(f"{path} is truncated or not a safetensors file ({error})") from None


def take_weights(
    module: nn.Module, tensors: Mapping[str, Tensor], path: Path, named: Callable[[str], str] = lambda name: name
) -> None:
    """Load tensors of a file into a module, strictly; ``named`` turns the module's names into the file's.

    Raises:
        DataError: names the file and the first tensor that is missing, extra or of another shape.
    """
    expected = module.state_dict()
    require_shapes(tensors, {named(name): x.shape for name, x in expected.items()}, path)
    module.load_state_dict({name: tensors[named(name)] for name in expected})


def require_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]], path: Path) -> None:
    """Compare the tensors of a file with the shapes that they should have.

    Raises:
        DataError: names the file and the first tensor that is missing, extra or of another shape.
    """
    for name, shape in expected.items():
        if name not in tensors:
            raise DataError(f"{path}: tensor {name!r} is missing")
        if tensors[name].shape != tuple(shape):
            raise DataError(f"{path}: tensor {name!r} is {tuple(tensors[name].shape)}, expected {tuple(shape)}")
    for name in tensors:
        if name not in expected:
            raise DataError(f"{path}: unexpected tensor {name!r}")
