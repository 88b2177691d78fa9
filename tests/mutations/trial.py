"""Reads damaged files in a process whose time and memory are limited, and judges what comes of it."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from damage import damage
from rslwm.registry import UnknownName
from rslwm.serialisation import ConfigError
from rslwm.types import DataError

SECONDS, WAIT = 20, 180
"""Of computing that a small file may take, and of waiting, however busy the machine is."""
MEMORY = 2 * 2**30
"""Bytes that reading it may add to the address space."""
TYPED = (ConfigError, DataError, UnknownName, OSError)


@dataclass(frozen=True)
class Subject:
    """Something that is read.

    ``make`` writes a sound one into an empty folder, ``read`` reads it there, and may write to a second path. ``named``
    is whether errors have to name a file, which a message over a wire doesn't have.
    """

    make: Callable[[Path], object]
    read: Callable[[Path, Path], object]
    named: bool = True


@dataclass
class Found:
    """How often a damaged one was read and refused, and whatever was neither."""

    outcomes: Counter[str] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)


def attempt(subject: Subject, folder: Path, seed: str) -> tuple[str, str]:
    """What comes of one that is damaged in a way that the seed says, and the story of it."""
    case, out = folder / "case", folder / "out"
    for place in (case, out):
        shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "sound", case)
    out.mkdir()
    done = damage(case, random.Random(seed))
    try:
        subject.read(case, out / "result")
    except TYPED as error:
        left = sorted(path.name for path in out.rglob("*") if path.is_file())
        unnamed = subject.named and str(folder) not in str(error)
        wrong = "leaves things behind" if left else "names no file" if unnamed else ""
        return (
            "defect" if wrong else "refused",
            f"{done}: {type(error).__name__}: {str(error)[:300]} {wrong}{left or ''}",
        )
    except BaseException as error:
        places = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(p.filename).name}:{p.lineno}" for p in places if "rslwm" in p.filename][-3:]
        return "defect", f"{done}: {type(error).__name__}: {str(error)[:300]} ({' '.join(ours)})"
    return "read", done


def examine(subject: Subject, name: str, folder: Path, count: int, first: int = 0) -> Found:
    """Try so many damaged ones; a process that dies or hangs is a defect, and the next one goes on."""
    found, number = Found(), first
    (folder / "sound").mkdir()
    subject.make(folder / "sound")
    subject.read(folder / "sound", folder / "read")  # or nothing below would mean anything
    while number < first + count:
        log = folder / "log.jsonl"
        log.write_text("")
        left = range(number, first + count)
        status = _in_a_process(partial(_work, subject, name, folder, left, log), folder / "errors")
        for line in log.read_text().splitlines():
            outcome, story = json.loads(line)
            found.outcomes[outcome] += 1
            found.defects += [f"{name} {number}: {story}"] * (outcome == "defect")
            number += 1
        if number < first + count:  # it died at this one
            how = (
                "takes too long"
                if status in (signal.SIGALRM, signal.SIGPROF)
                else f"ends the process by signal {status}"
            )
            found.outcomes["defect"] += 1
            found.defects.append(f"{name} {number}: {how}; {(folder / 'errors').read_text()[-500:]}")
            number += 1
    return found


def _work(subject: Subject, name: str, folder: Path, numbers: range, log: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for alarm in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(alarm, signal.SIG_DFL)  # which ends C code, too
    with log.open("a") as lines:
        for number in numbers:
            signal.alarm(WAIT)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            lines.write(json.dumps(attempt(subject, folder, f"{name} {number}")) + "\n")
            lines.flush()


def _in_a_process(work: Callable[[], None], errors: Path) -> int:
    """The signal that ended it, 0 if none did; forked, for everything is imported already."""
    if (child := os.fork()) == 0:
        try:
            with errors.open("wb") as file:
                os.dup2(file.fileno(), 2)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
