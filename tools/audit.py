"""Asks pypi.org whether a weakness of a pinned package is publicly known. Says so, and no more, where it can't ask.

Needs the package pip-audit. Exit code 1 only if a weakness is known.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
SERVICE = "https://pypi.org/pypi/pip/24.0/json"
PATIENCE, LIMIT = 3, 15
"""Seconds to wait for an answer at all, and for all of them."""


def reachable(service: str = SERVICE) -> bool:
    """Whether there is an answer soon."""
    try:
        with urlopen(service, timeout=PATIENCE):
            return True
    except (OSError, ValueError):
        return False


def main(service: str = SERVICE) -> int:
    """1 if a weakness is known, else 0."""
    if not reachable(service):
        print(f"audit: {service} can't be reached; nothing was looked up")
        return 0
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
    try:
        done = subprocess.run([*command, "-r", str(ROOT / "constraints.txt")], timeout=LIMIT)
    except subprocess.TimeoutExpired:
        print(f"audit: no answer within {LIMIT} s; nothing was looked up")
        return 0
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
