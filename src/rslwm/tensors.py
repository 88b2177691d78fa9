"""Files of tensors: safetensors, and those of ``torch.save``, of which nothing that is pickled in them is ever run."""

from __future__ import annotations

import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rslwm.types import DataError

_GARBLED = (
    RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError, struct.error,
    zipfile.BadZipFile,
)  # fmt: skip
"""What damaged or foreign bytes raise: torch reads them before it knows what they are."""


PACKED, SCALE, LARGEST = {"packed": "rows of 8 bits"}, ".scale", 127
"""What :func:`write_packed` notes in a file, calls the scales of a matrix, and makes of a row's largest number."""


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions that a new file gets in this process."""
    path.touch()
    mode = path.stat().st_mode  # safetensors puts a file of its own in place, which nobody but its owner may read
    save_file({name: x.detach().contiguous() for name, x in tensors.items()}, path, metadata)
    path.chmod(mode)


def write_packed(tensors: Mapping[str, Tensor], path: Path) -> None:
    """:func:`write_tensors` in about a quarter of the room, which :func:`read_weights` reads like any other file.

    Matrices of floating-point numbers become whole numbers from -127 to 127 with a scale for each row, that is for what
    comes out of a layer; other floating-point tensors are rounded to half precision, and integers are kept. Raises
    :class:`DataError` for a number that isn't finite, or too large for half precision.
    """
    packed = dict[str, Tensor]()
    for name, x in tensors.items():
        if not x.is_floating_point():
            packed[name] = x
        elif x.ndim > 1 and len(x) > 1:
            rows = x.detach().float().flatten(1)
            scale = rows.abs().amax(1, keepdim=True) / LARGEST
            packed[name] = (rows / scale.where(scale > 0, 1.0)).round().to(torch.int8).view(x.shape)
            packed[name + SCALE] = scale[:, 0]
        else:
            packed[name] = x.detach().half()
    for name, x in packed.items():
        if x.is_floating_point() and not x.isfinite().all():
            raise DataError(f"{path}: tensor {name!r} has numbers that can't be packed: not finite, or above 65504")
    write_tensors(packed, path, PACKED)


def _unpacked(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """What :func:`write_packed` was given, in single precision and as good as it was kept; raises :class:`DataError`
    for a matrix without its scales."""
    found = {name: x for name, x in tensors.items() if not (name.endswith(SCALE) and name[: -len(SCALE)] in tensors)}
    for name, x in found.items():
        if x.dtype == torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != x.shape[:1]:
                raise DataError(f"{path}: tensor {name!r} lacks a scale for each of its rows; get the file again")
            found[name] = (x.flatten(1).float() * scale[:, None]).view(x.shape)
        elif x.is_floating_point():
            found[name] = x.float()
    return found


def load_weights(module: nn.Module, path: Path) -> None:
    """:func:`take_weights` of a safetensors file."""
    take_weights(module, read_weights(path), path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, packed ones in single precision; raises :class:`DataError` if it isn't there,
    or can't be read."""
    with opened(path) as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # the file is no mapping
        packed = (file.metadata() or {}).items() >= PACKED.items()
    return _unpacked(stored, path) if packed else stored


@contextmanager
def opened(path: Path, framework: Literal["pt", "numpy"] = "pt") -> Iterator[Any]:
    """A safetensors file, of which nothing but its header is read; raises what :func:`read_weights` raises."""
    try:
        file = safe_open(path, framework)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is truncated or not a safetensors file ({error})") from None
    with file:
        try:
            yield file
        except SafetensorError as error:
            raise DataError(f"{path} can't be read ({error})") from None


def noted(file: Any, name: str, path: Path) -> Any:
    """What a safetensors file says in its metadata under a name, as JSON. Raises :class:`DataError`: nothing."""
    try:
        return json.loads((file.metadata() or {})[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise DataError(f"{path} doesn't say its {name!r} ({error!r}); it was written by another program") from None


def take_weights(
    module: nn.Module, tensors: Mapping[str, Tensor], path: Path, named: Callable[[str], str] = lambda name: name
) -> None:
    """Load tensors of a file into a module, strictly; ``named`` turns the module's names into the file's. Raises what
    :func:`require_shapes` raises."""
    expected = module.state_dict()
    require_shapes(tensors, {named(name): x.shape for name, x in expected.items()}, path)
    module.load_state_dict({name: tensors[named(name)] for name in expected})


def require_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]], path: Path) -> None:
    """Raise :class:`DataError` for the first tensor of a file that is missing, extra or of another shape."""
    for name, shape in expected.items():
        if name not in tensors:
            raise DataError(f"{path}: tensor {name!r} is missing")
        if tensors[name].shape != tuple(shape):
            raise DataError(f"{path}: tensor {name!r} is {tuple(tensors[name].shape)}, expected {tuple(shape)}")
    for name in tensors:
        if name not in expected:
            raise DataError(f"{path}: unexpected tensor {name!r}")


def read_tensors(path: Path) -> dict[str, Any]:
    """The dictionary that a file of ``torch.save`` holds, of tensors, numbers, text and further dictionaries.

    Tensors are mapped into memory rather than read, but for files in the form from before torch 1.6.

    Raises:
        DataError: there is no such file; it is truncated, another kind of file, or holds something else than a
            dictionary; or its pickle asks for code, which is not run.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except pickle.UnpicklingError as error:
        raise DataError(_refusal(path, str(error))) from None
    except _GARBLED as error:
        reason = re.split(r"\n|\. ", str(error))[0] or type(error).__name__
        raise DataError(f"{path} is truncated or not a file of torch.save ({reason}); get it again") from None
    if not isinstance(content, Mapping):
        raise DataError(f"{path} holds a {type(content).__name__}, expected a dictionary of tensors")
    return dict(content)


def tensors_in(content: Mapping[str, Any], path: Path, prefixes: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """The entries whose names start with one of the prefixes; raises :class:`DataError` if one is no tensor."""
    chosen = {name: x for name, x in content.items() if isinstance(name, str) and name.startswith(prefixes)}
    for name, x in chosen.items():
        if not isinstance(x, Tensor):
            raise DataError(f"{path}: {name!r} is a {type(x).__name__}, expected a tensor")
    return chosen


def _refusal(path: Path, message: str) -> str:
    asked = re.search(r"GLOBAL (\S+)", message)
    if asked is None:
        return f"{path} is not a file of torch.save, or its pickle is damaged; nothing of it was loaded"
    return (
        f"{path} would run code: its pickle asks for {asked[1]}. Nothing of it was loaded. If you trust whoever made "
        "it, open it elsewhere and save a dictionary of its tensors alone"
    )
