"""Environments with the protocols' own libraries, built once with pip and kept: they don't go together with ours."""

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = HERE.parents[2] / "src"
OPENPI = "openpi-client==0.1.2 typing-extensions"  # which it imports and doesn't require
VLA_EVAL = "vla-eval==0.8.0"


class Unbuilt(Exception):
    """The packages can't be had; the message is what pip said."""


def python(requirement: str) -> Path:
    """The interpreter of an environment with these requirements alone. Raises Unbuilt."""
    name = hashlib.sha256(f"{requirement} {sys.version}".encode()).hexdigest()[:8]
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rslwm-conformance"
    folder = root / f"{requirement.partition('==')[0]}-{name}"
    found, whole = folder / "bin" / "python", folder / "whole"
    if not whole.exists():
        venv.create(folder, clear=True, with_pip=True)
        command = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]
        try:
            done = subprocess.run([*command, *requirement.split()], capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            raise Unbuilt("pip took more than 10 minutes") from None
        if done.returncode:
            raise Unbuilt(done.stderr.strip().splitlines()[-1])
        whole.touch()
    return found


def run(requirement: str, script: str, *arguments: str, ours: bool = False) -> Any:
    """What a script of this folder prints as its last line, as JSON; with ``ours``, rslwm can be imported there."""
    command, environment = started(requirement, script, arguments, ours)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def started(
    requirement: str, script: str, arguments: Sequence[str], ours: bool = False
) -> tuple[list[str], dict[str, str]]:
    """A command line and its environment variables."""
    paths = [str(SOURCE), *(path for path in sys.path if path.endswith("site-packages"))] if ours else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return [str(python(requirement)), str(HERE / script), *arguments], environment
