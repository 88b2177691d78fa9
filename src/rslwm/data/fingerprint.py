"""What a data set's content is, as one hash: part of the key of everything that is computed from it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

FILE = "meta/fingerprint.json"


def fingerprint(root: Path) -> str:
    """16 hex digits of a LeRobot folder's files (metadata, tables and videos).

    The sums of the files are kept beside them with sizes and modification times and used as long as these agree; a
    copy of the folder therefore reads every byte once, finds the same sums and notes the new times.
    """
    noted = recorded(root)
    current = {name: _entry(root / name, noted.get(name)) for name in content(root)}
    sums = {name: entry["sha256"] for name, entry in current.items()}
    # Sums that changed are not noted: those of the writer are what a check compares with.
    if current != noted and (not noted or sums == {name: entry["sha256"] for name, entry in noted.items()}):
        note(root, current)
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:16]


def content(root: Path) -> list[str]:
    """The files that count, relative to ``root``, sorted."""
    found = (path for path in root.rglob("*") if path.suffix in {".json", ".parquet", ".mp4"})
    return sorted(name for path in found if (name := path.relative_to(root).as_posix()) != FILE)


def recorded(root: Path) -> dict[str, dict[str, Any]]:
    """Size, modification time and SHA-256 of every file when they were last noted; empty if they never were."""
    path = root / FILE
    return json.loads(path.read_text()) if path.is_file() else {}


def changed(root: Path) -> list[str]:
    """Files whose bytes are no longer those that were noted, or that came or went since. Reads every byte."""
    noted = recorded(root)
    now = {name: _sha256(root / name) for name in content(root)}
    return sorted(n for n in noted.keys() | now.keys() if n not in noted or noted[n]["sha256"] != now.get(n))


def note(root: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Keep these sums for the next time, unless the folder is read-only."""
    if os.access(root / "meta", os.W_OK):
        partial = root / f"{FILE}.partial"
        partial.write_text(json.dumps(entries, indent=1))
        partial.replace(root / FILE)


def _entry(path: Path, noted: dict[str, Any] | None) -> dict[str, Any]:
    stat = path.stat()
    if noted and (noted["size"], noted["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns):
        return noted
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
