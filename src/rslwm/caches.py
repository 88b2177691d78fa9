"""What is kept from run to run because making it again takes time, in a place of its own: never in a user's folders."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

ENVIRONMENT = "RSLWM_CACHE"


def cache_folder() -> Path:
    """``$RSLWM_CACHE``, else ``rslwm`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; it may not exist yet."""
    if own := os.environ.get(ENVIRONMENT):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rslwm"


def recall(name: str) -> dict[str, Any]:
    """What was noted under this name; empty if nothing was, or if it can't be read."""
    with suppress(OSError, ValueError):
        noted = json.loads((cache_folder() / name).read_text())
        return noted if isinstance(noted, dict) else {}
    return {}


def note(name: str, values: dict[str, Any]) -> None:
    """Keep these values under a file's name, whole or not at all; of several processes the last one's stay.

    Where nothing can be written, nothing is kept.
    """
    path = cache_folder() / name
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(values))
        fresh.replace(path)
