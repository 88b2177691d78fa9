"""A checkpoint's folder: exchanged as a whole, and read only in the format that this version writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from rslwm.types import DataError

FORMAT = 1


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary sibling that takes the folder's place when the block ends without an error.

    Raises:
        DataError: the folder exists and holds something else.
    """
    if folder.exists() and not (folder / "config.yaml").is_file() and any(folder.iterdir()):
        raise DataError(f"{folder} exists and is not a checkpoint (no config.yaml); choose another folder or remove it")
    new, old = (folder.with_name(f".{folder.name}.{tag}-{os.getpid()}") for tag in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)


def read_record(file: Path) -> dict[str, Any]:
    """``config.yaml`` as it was saved; raises :class:`DataError` if it is missing, damaged or of another format."""
    if not file.is_file():
        raise DataError(f"{file} does not exist; a checkpoint holds config.yaml, model.safetensors and space/")
    try:
        record = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise DataError(f"{file} is not YAML: {error}") from None
    found = record.get("format") if isinstance(record, dict) else record
    if not isinstance(record, dict) or found != FORMAT:
        raise DataError(f"{file}: format {found!r}, but this version reads {FORMAT}; use the version that wrote it")
    for name in ("world_model", "latent_space", "action_spec", "data_fingerprint"):
        if name not in record:
            raise DataError(f"{file}: field {name!r} is missing; the file is not as it was saved")
    return record
