"""Where commands print to, the bar that they show while they work, and the failures that they end with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from rslwm.types import Progress

if TYPE_CHECKING:
    from rslwm.study.record import Failure

WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""


def console() -> Console:
    """Standard output: results. Progress goes to standard error."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Progress]:
    """A bar on a terminal, nothing elsewhere; its message isn't shown."""
    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task(what, total=total)

        def count(done: int, total: int, message: str) -> None:
            bars.update(task, completed=done, total=total or None)

        yield count


def report_failures(failed: Iterable[Failure]) -> NoReturn:
    """Name every metric that failed and exit with code 1."""
    screen = console()
    for entry in failed:
        text = f"{entry.metric} failed for {entry.space}: {entry.reason} (log: {entry.log})"
        screen.print(text, style="bold red", markup=False, soft_wrap=True)
    screen.print("All else was measured and is kept. Correct the cause and run the same command again.", style="red")
    raise SystemExit(1)
