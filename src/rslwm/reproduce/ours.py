"""Our own results as a ledger: what a command measured, and whether it measures the same again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rslwm.serialisation import ConfigError, content_hash, from_dict, to_dict
from rslwm.types import DataError
from rslwm.verdict.decide import Verdict

LEDGER = "ledger.json"
HERE = "{here}"
"""Stands in a command for the folder of its ledger."""
SHARE = 0.25
"""Tolerance of a recorded number, as a share of its interval's half width: chance in numerics, not other episodes."""
WITHOUT = 0.01
"""The same of a number without an interval, as a share of itself."""
DIGITS = 6
"""Of a recorded number."""

Run = Callable[[str, Path], None]
"""Does a command line with this folder as its ``--out``; raises :class:`DataError` if it ends otherwise than well."""


@dataclass(frozen=True)
class Expected:
    """A number that a command gives: a metric of a latent space, with its interval over episodes where it has one.

    ``seconds`` is what the whole command took, ``tolerance`` how far the number may be off when it is measured again.
    """

    what: str
    command: str
    metric: str
    latent: str
    value: float
    tolerance: float
    seconds: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Checked:
    """A number measured again; None with the reason why not."""

    expected: Expected
    ledger: Path
    value: float | None
    why: str = ""

    @property
    def passed(self) -> bool:
        return self.value is not None and abs(self.value - self.expected.value) <= self.expected.tolerance


@dataclass(frozen=True)
class Job:
    """A command of a ledger with all that is expected of it."""

    ledger: Path
    command: str
    expected: tuple[Expected, ...]

    @property
    def seconds(self) -> float:
        return max(entry.seconds for entry in self.expected)

    @property
    def line(self) -> str:
        """The command as it is to be run."""
        return self.command.replace(HERE, str(self.ledger.parent.absolute()))

    @property
    def key(self) -> str:
        """Names the folder that the command writes to: the same command goes on where it was."""
        return content_hash(self.line)

    def check(self, run: Run, out: Path) -> list[Checked]:
        """Run the command into a folder and compare. A command that fails fails all that is expected of it."""
        try:
            run(self.line, out)
            found = numbers(out)
        except DataError as error:
            return [Checked(entry, self.ledger, None, str(error)) for entry in self.expected]
        return [_compared(entry, self.ledger, found) for entry in self.expected]


def _compared(entry: Expected, ledger: Path, found: Mapping[tuple[str, str], Any]) -> Checked:
    bar = found.get((entry.latent, entry.metric))
    if bar is None or bar.value is None:
        held = ", ".join(sorted({metric for _, metric in found})) or "nothing"
        return Checked(entry, ledger, None, f"{entry.metric} of {entry.latent} was not measured; measured: {held}")
    return Checked(entry, ledger, bar.value)


def numbers(folder: Path) -> dict[tuple[str, str], Any]:
    """Bars of a finished ``rslwm eval`` or ``compare`` by latent space and metric; :class:`DataError` without a
    verdict."""
    verdict = Verdict.load(folder / "verdict.json")
    return {(bar.latent, metric.info.name): bar for metric in verdict.metrics for bar in metric.bars}


def load(folder: Path) -> list[Job]:
    """The jobs of all ledgers in a folder and one below it, the cheapest first.

    Raises:
        DataError: there is no ledger, or one is damaged.
    """
    paths = sorted({*folder.glob(LEDGER), *folder.glob(f"*/{LEDGER}")})
    if not paths:
        what = "holds no ledger.json" if folder.is_dir() else "is no folder"
        remedy = f"write one with `rslwm reproduce --record {folder / 'NAME' / LEDGER} --command 'rslwm eval ...'`"
        raise DataError(f"{folder} {what}, so there are no results of ours to run again; {remedy}, or name --results")
    found = []
    for path in paths:
        by_command: dict[str, list[Expected]] = {}
        for entry in read(path):
            by_command.setdefault(entry.command, []).append(entry)
        found += [Job(path, command, tuple(entries)) for command, entries in by_command.items()]
    return sorted(found, key=lambda job: job.seconds)


def within(jobs: Sequence[Job], minutes: float) -> list[Job]:
    """The cheapest jobs that together take no longer than that, as recorded."""
    chosen, left = list[Job](), 60 * minutes
    for job in jobs:
        left -= job.seconds
        if left < 0:
            break
        chosen.append(job)
    return chosen


def read(path: Path) -> list[Expected]:
    """A ledger's entries; raises :class:`DataError` that names the field if it is damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return [from_dict(Expected, entry, f"entries[{i}]") for i, entry in enumerate(content["entries"])]
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        remedy = "record it again with `rslwm reproduce --record`"
        raise DataError(f"{path} is no ledger of results ({error!r}); {remedy}") from None


def record(command: str, folder: Path, seconds: float, only: Iterable[str] = ()) -> list[Expected]:
    """What a finished run of a command holds, of these metrics or of all.

    Raises:
        DataError: the folder has no verdict, or none of the metrics.
    """
    wanted, found = {*only}, list[Expected]()
    for (latent, metric), bar in numbers(folder).items():
        if bar.value is None or (wanted and metric not in wanted):
            continue
        half = None if bar.low is None or bar.high is None else (bar.high - bar.low) / 2
        tolerance = WITHOUT * abs(bar.value) if half is None else SHARE * half
        tolerance = float(f"{max(tolerance, 10 ** (1 - DIGITS) * abs(bar.value)):.2g}")
        value, what = float(f"{bar.value:.{DIGITS}g}"), f"{metric} of {latent}"
        low, high = (None if x is None else float(f"{x:.{DIGITS}g}") for x in (bar.low, bar.high))
        found.append(Expected(what, command, metric, latent, value, tolerance, round(seconds, 1), low, high))
    if not found:
        asked = f"none of {', '.join(sorted(wanted))}" if wanted else "no number"
        raise DataError(f"{folder / 'verdict.json'} holds {asked}; name metrics that the command measures")
    return found


def write(path: Path, entries: Sequence[Expected]) -> None:
    """Put entries into a ledger, in place of those of the same commands; raises what :func:`read` does."""
    commands = {entry.command for entry in entries}
    kept = [entry for entry in read(path) if entry.command not in commands] if path.is_file() else []
    lines = [json.dumps(to_dict(entry)) for entry in (*kept, *entries)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{\n "entries": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n")
