"""The same work in several processes of this machine, which torch.distributed finds each other by their environment."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from rslwm.processes import end_with_parent
from rslwm.types import Progress, silent

Work = Callable[[Progress], None]

LAST_WORDS = 2.0
"""Seconds in which the cause of a failure is told after its first sign: the others fail of a lost connection."""


def together(work: Work, processes: int, report: Progress) -> None:
    """Call ``work`` in so many processes at once, the first of which reports. All end with the first that fails.

    Raises:
        MemoryError: one was killed by SIGKILL, which usually means that memory ran out.
        ChildProcessError: one died in another way without a word.
        BaseException: what the first one to fail raised.
    """
    context = multiprocessing.get_context("spawn")  # no GPU survives a fork
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    ranks: dict[Connection, BaseProcess] = {}
    try:
        for rank in range(processes):
            ear, mouth = context.Pipe(duplex=False)
            place = {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks[ear] = context.Process(target=_take_part, args=(work, place, mouth), name=f"{rank} of {processes}")
            ranks[ear].start()
            mouth.close()
        _listen(ranks, report)
    finally:
        for process in ranks.values():
            process.kill()
            process.join()


def _listen(ranks: Mapping[Connection, BaseProcess], report: Progress) -> None:
    """Until all processes have ended well; else raises the death of one, or what the first to fail said."""
    speaking, deaths, errors = dict(ranks), list[BaseException](), list[BaseException]()
    deadline = time.monotonic() + LAST_WORDS
    while speaking and time.monotonic() < deadline:
        for ear in wait([*speaking], LAST_WORDS / 10):
            assert isinstance(ear, Connection)
            said = _heard(ear)
            if said is None:
                process = speaking.pop(ear)
                process.join()
                deaths += [_obituary(process)] if process.exitcode else []
            elif isinstance(said, BaseException):
                errors.append(said)
            else:
                report(*said)
        if not deaths and not errors:
            deadline = time.monotonic() + LAST_WORDS
    for error in [*deaths, *errors]:
        raise error


def _heard(ear: Connection) -> tuple[int, int, str] | BaseException | None:
    """Progress, an error, or nothing any more."""
    try:
        return ear.recv()
    except (EOFError, ConnectionResetError):
        return None


def _obituary(process: BaseProcess) -> BaseException:
    who, code = f"process {process.name}", process.exitcode or 0
    if code == -signal.SIGKILL:
        return MemoryError(f"{who} was killed by SIGKILL, which usually means that memory ran out")
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit code {code}"
    return ChildProcessError(f"{who} {how}")


def _take_part(work: Work, place: Mapping[str, str], mouth: Connection) -> None:
    """The body of a process. One that ends with SystemExit(0) has done its part."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(lambda: os._exit(1))
    os.environ.update(place)
    first = place["RANK"] == "0"
    try:
        import torch  # the commands that start nothing needn't wait for it

        if torch.cuda.is_available():
            torch.cuda.set_device(int(place["LOCAL_RANK"]))
        work((lambda *said: mouth.send(said)) if first else silent)
    except SystemExit as end:
        if end.code:
            raise
    except BaseException as error:
        traceback.print_exc()
        mouth.send(_sendable(error))


def _sendable(error: BaseException) -> BaseException:
    """The error itself if it can be sent, or what it says."""
    with suppress(Exception):
        pickle.loads(pickle.dumps(error))
        return error
    return RuntimeError("".join(traceback.format_exception_only(error)).strip())


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
