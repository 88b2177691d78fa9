"""What files hold, as one hash: part of the key of everything that is computed from them.

Every byte counts, and neither place nor time. What was read once isn't read again while a file's size and times stay
what they were; these are noted in the cache, never beside the data.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.filesize import decimal

from rslwm import caches
from rslwm.files import sha256
from rslwm.processes import cores
from rslwm.serialisation import content_hash

FILE = "meta/fingerprint.json"
SETTLED_NS = 10**9
"""Age from which a file is known by its times: one that is written twice within a tick of the clock keeps them."""
LONG = 2 * 10**9  # bytes that take so long to read that it is said


def fingerprint(root: Path) -> str:
    """16 hex digits of a data set's files (metadata, tables, videos and images)."""
    return hashlib.sha256(json.dumps(_sums(root, content(root)), sort_keys=True).encode()).hexdigest()[:16]


def files_key(location: Path) -> str:
    """12 hex digits of a file, or of the names and the content of the files below a folder."""
    if location.is_file():
        return content_hash(_sums(location.parent, [location.name])[location.name])
    return content_hash(_sums(location, content(location)))


def episode_key(actions: np.ndarray) -> str:
    """12 hex digits of an episode, by its recorded actions (T, A): the same under another id and in another format."""
    values = np.ascontiguousarray(actions, np.float32)
    return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()[:12]


def content(root: Path) -> list[str]:
    """The files that count, relative to ``root``, sorted: no hidden ones, which tools leave behind, and no read-me."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.suffix != ".md")
    counting = {path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)}
    return sorted(counting - {FILE})


def recorded(root: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 of every file as a data set's writer noted them in it; empty if it didn't, or wrote something else."""
    try:
        noted = json.loads((root / FILE).read_text())
    except (OSError, ValueError):
        return {}
    sums = noted.values() if isinstance(noted, dict) else [None]
    return noted if all(isinstance(each, dict) and isinstance(each.get("sha256"), str) for each in sums) else {}


def changed(root: Path) -> list[str]:
    """Files whose bytes are no longer those that the writer noted, or that came or went since. Reads every byte."""
    noted = recorded(root)
    now = {name: sha256(root / name) for name in content(root)} if noted else {}
    return sorted(n for n in noted.keys() | now.keys() if n not in noted or noted[n]["sha256"] != now.get(n))


def note(root: Path) -> None:
    """Note the sums of a data set in it: for its writer, so that :func:`changed` finds what happened to it since."""
    sums = {name: {"sha256": value} for name, value in _sums(root, content(root)).items()}
    (root / FILE).write_text(json.dumps(sums, indent=1))


def _sums(root: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of these files below ``root``, read only where that is needed."""
    place = f"sums/{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]}.json"
    known = caches.recall(place)
    states = {name: _state(root / name) for name in names}
    unread = [name for name, state in states.items() if known.get(name, {}).get("state") != state]
    if (size := sum(states[name][0] for name in unread)) > LONG:
        print(f"reading {decimal(size)} of {root} once, to know the data by their content", file=sys.stderr)
    with ThreadPoolExecutor(cores()) as pool:
        read = dict(zip(unread, pool.map(lambda name: sha256(root / name), unread), strict=True))
    settled = time.time_ns() - SETTLED_NS
    fresh = {n: {"state": states[n], "sha256": s} for n, s in read.items() if states[n][-1] < settled}
    if fresh:
        caches.note(place, {**known, **fresh})
    return {name: read.get(name) or known[name]["sha256"] for name in states}


def _state(path: Path) -> list[int]:
    """Size, and times of change of content and of anything else."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
