"""JSON files, read strictly, files that are written whole or not at all, and what a file holds as one number."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from rslwm.types import DataError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises DataError: there is no such file, or it holds something else."""
    if not path.is_file():
        raise DataError(f"{path} does not exist, or is no file. Copy it there.")
    return json_object(path.read_bytes(), str(path))


def json_object(text: bytes, where: str) -> dict[str, Any]:
    """As :func:`read_json`, of a part of a file."""
    try:
        values = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError, too
        raise DataError(f"{where} is not JSON: {error}. Copy it again, or write it again in UTF-8.") from None
    if not isinstance(values, dict):
        raise DataError(f"{where} holds {str(values)[:40]!r}; expected a JSON object, {{...}}")
    return values


def write_whole(path: Path, text: str) -> None:
    """Put this text in the place of a file: whoever reads it, or a kill, meets the old one or the new one."""
    fresh = path.with_name(f"{path.name}.tmp")
    fresh.write_text(text)
    fresh.replace(path)


def sha256(path: Path) -> str:
    """Of a file's content, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
