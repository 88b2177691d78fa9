"""Files of ``torch.save``, read without ever running what is pickled in them."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rslwm.types import DataError

_GARBLED = (
    RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError, struct.error,
)  # fmt: skip
"""What damaged or foreign bytes raise: torch reads them before it knows what they are."""


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
    """The entries whose names start with one of the prefixes.

    Raises:
        DataError: one of them is no tensor.
    """
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
