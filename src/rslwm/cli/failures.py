"""Metrics that failed: said last and in red, and the command fails with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

from rslwm.cli.output import console


def report_failures(failed: Iterable[Mapping[str, str]]) -> NoReturn:
    """Name every metric that failed (``metric``, ``space``, ``reason``, ``log``) and exit with code 1."""
    screen = console()
    for entry in failed:
        text = f"{entry['metric']} failed for {entry['space']}: {entry['reason']} (log: {entry['log']})"
        screen.print(text, style="bold red", markup=False, soft_wrap=True)
    screen.print("All else was measured and is kept. Correct the cause and run the same command again.", style="red")
    raise SystemExit(1)
