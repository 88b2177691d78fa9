"""Wall-clock seconds of implementations side by side in one process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Work = Callable[[], object]

LONG = 5.0
"""Seconds from which on a user wants to know how long it will take."""


def timed(work: Work) -> float:
    """Seconds of one call, until the device has finished."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def paired(
    ours: Work, baseline: Work, rounds: int, warmup: int = 1, label: str = ""
) -> tuple[list[float], list[float]]:
    """Seconds of every run of both; see :func:`interleaved`."""
    first, second = interleaved([ours, baseline], rounds, warmup, label)
    return first, second


def interleaved(works: Sequence[Work], rounds: int, warmup: int = 1, label: str = "") -> list[list[float]]:
    """Seconds of every run of every work, in turns, so that whatever slows the machine down meets all alike.

    The order is reversed from round to round. Compare run i of one with run i of another.

    Args:
        warmup: rounds before the first one that counts.
        label: named in the progress and in the estimate of the duration, which go to standard error.

    Raises:
        ValueError: not a single round.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; a measurement needs at least 1")
    for work in [*works] * warmup:
        timed(work)
    seconds: list[list[float]] = [[] for _ in works]
    order = list(range(len(works)))
    with _progress(label or "rounds", rounds) as advance:
        for number in range(rounds):
            for i in order if number % 2 == 0 else reversed(order):
                seconds[i].append(timed(works[i]))
            advance(sum(map(sum, seconds)) / (number + 1))
    return seconds


def announce(what: str, seconds: float) -> None:
    """Say on standard error how long something is expected to take, if that is long."""
    if seconds > LONG:
        print(f"{what}: about {seconds:.0f} s" + f" ({seconds / 60:.0f} min)" * (seconds > 90), file=sys.stderr)


@contextmanager
def _progress(label: str, rounds: int) -> Iterator[Callable[[float], None]]:
    """A bar with the time left on a terminal, one line elsewhere; call the result with the seconds of a round."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task(label, total=rounds)
        done = 0

        def advance(round_seconds: float) -> None:
            nonlocal done
            done += 1
            bars.update(task, completed=done)
            if done == 1 and not screen.is_terminal:
                announce(f"{label}, {rounds - 1} more rounds", round_seconds * (rounds - 1))

        yield advance
