"""JSON files, read strictly, files written whole or not at all, their checksums, and paths that somebody else chose."""

from __future__ import annotations

import hashlib
import json
import os
import re
import string
from collections.abc import Mapping
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


def within(folder: Path, name: str) -> Path:
    """The file of a folder that a name or relative path from elsewhere leads to. Raises ValueError: it leads out of the
    folder. Links inside are followed: whoever made the folder here made them, as the hub's cache does."""
    place = Path(os.path.normpath(folder / name))
    if not place.is_relative_to(os.path.normpath(folder)) or "\0" in name:
        raise ValueError(f"{name[:200]!r} leads out of {folder}")
    return folder / name


_FORM = re.compile(r"(0?\d)?d?")


def filled(template: str, parts: Mapping[str, Any]) -> str:
    """A template from elsewhere with its fields filled in. Raises ValueError: it asks for more than a part as it is, or
    a whole number of up to nine digits; formats can also reach into objects, and ask for gigabytes of blanks."""
    for _, name, form, conversion in string.Formatter().parse(template):
        if name is not None and (name not in parts or conversion or not _FORM.fullmatch(form or "")):
            raise ValueError(f"no field {{{name}{f':{form}' if form else ''}}}")
    return template.format(**parts)


def write_whole(path: Path, text: str) -> None:
    """Put this text in the place of a file: whoever reads it, or a kill, meets the old one or the new one."""
    fresh = path.with_name(f"{path.name}.tmp")
    fresh.write_text(text)
    fresh.replace(path)


def sha256(path: Path) -> str:
    """Of a file's content, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
