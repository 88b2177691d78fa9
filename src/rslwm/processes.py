"""Work spread over processes, its results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

AHEAD = 3
"""Results a process that may wait for the reader: a slow one must not fill the memory."""

_number = 0


def cores() -> int:
    """Cores that this process may use, which a container or a job scheduler may have made fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def number() -> int:
    """Of this process among those that share the work, from 0 on."""
    return _number


def spread(work: Callable[[A], B], items: Iterable[A], processes: int) -> Iterator[B]:
    """Like ``map``, in so many processes; 1 works in this one. ``work`` and what it makes must be picklable."""
    if processes == 1:
        yield from map(work, items)
        return
    pending: deque[Future[B]] = deque()
    context = multiprocessing.get_context("spawn")  # neither a graphics context nor a GPU's survives a fork
    pool = ProcessPoolExecutor(processes, context, _begin, (context.Value("i", 0),))
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > AHEAD * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(counter: Synchronized[int]) -> None:
    """A worker leaves Ctrl-C to the process that reads, and never outlives it."""
    global _number
    with counter.get_lock():
        _number, counter.value = counter.value, counter.value + 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(lambda: os._exit(1))


def end_with_parent(end: Callable[[], None]) -> None:
    """Call ``end`` in this process as soon as the one that started it is gone, however that ended; else a worker would
    wait for work for ever. The kernel's own signal at a parent's death (PR_SET_PDEATHSIG) won't do: it comes when the
    *thread* that started this process ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        end()

    threading.Thread(target=watch, daemon=True).start()
