"""Runs the command line as a user does, in a process of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

COMMAND = (sys.executable, "-m", "rslwm")
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@dataclass(frozen=True)
class Run:
    """A command that ended with exit code 0; ``folder`` is its ``--out``."""

    folder: Path
    output: str
    progress: str

    @property
    def undisturbed(self) -> FileLock:
        """Held by whoever writes into a folder that several tests share, or copies it."""
        return FileLock(self.folder.with_suffix(".lock"))

    @property
    def made(self) -> list[str]:
        """Stages that this command ran, rather than kept."""
        return [line.removeprefix("started").strip() for line in self.progress.splitlines() if "started " in line]


def rslwm(*words: str, out: Path) -> Run:
    """``rslwm WORDS --out OUT``."""
    line = [*COMMAND, *words, "--out", str(out)]
    ended = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert ended.returncode == 0, f"{line} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
    return Run(out, ended.stdout, ended.stderr)
