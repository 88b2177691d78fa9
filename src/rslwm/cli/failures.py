"""Metrics that failed: said last and in red, and the command fails with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from rslwm.cli.output import console

if TYPE_CHECKING:
    from rslwm.study.record import Failure


def report_failures(failed: Iterable[Failure]) -> NoReturn:
    """Name every metric that failed and exit with code 1."""
    screen = console()
    for entry in failed:
        text = f"{entry.metric} failed for {entry.space}: {entry.reason} (log: {entry.log})"
        screen.print(text, style="bold red", markup=False, soft_wrap=True)
    screen.print("All else was measured and is kept. Correct the cause and run the same command again.", style="red")
    raise SystemExit(1)
