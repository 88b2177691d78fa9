"""Where commands print to, and the bar that they show while they work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""


def console() -> Console:
    """Standard output: results. Progress goes to standard error."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


class Count(Protocol):
    """A :data:`rslwm.types.Progress` that needs to be told nothing but how much is done."""

    def __call__(self, done: int, total: int = 0, message: str = "") -> None: ...


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Count]:
    """A bar on a terminal, nothing elsewhere; call the result with the number done so far."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Bars(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task(what, total=total)

        def count(done: int, total: int = 0, message: str = "") -> None:
            bars.update(task, completed=done, total=total or None)

        yield count
