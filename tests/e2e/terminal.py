"""Runs the command line as a user does, in a process of its own."""

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "rslwm")
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@dataclass(frozen=True)
class Run:
    """A command that ended with exit code 0; ``folder`` is its ``--out``."""

    folder: Path
    output: str
    progress: str
    seconds: float
    core_seconds: float
    """Processor time of the command and of all that it started."""

    @property
    def made(self) -> list[str]:
        """Stages that this command ran, rather than kept."""
        return [line.removeprefix("started").strip() for line in self.progress.splitlines() if "started " in line]


def rslwm(*words: str, out: Path) -> Run:
    """``rslwm WORDS --out OUT``."""
    began, used = time.monotonic(), _core_seconds()
    line = [*COMMAND, *words, "--out", str(out)]
    ended = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert ended.returncode == 0, f"{line} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
    return Run(out, ended.stdout, ended.stderr, time.monotonic() - began, _core_seconds() - used)


def _core_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
