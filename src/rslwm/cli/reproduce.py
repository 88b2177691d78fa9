"""rslwm reproduce: the paper's rows and our own results, each with its command, and whether they come out again."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

import rslwm
from rslwm.cli.output import console, counting
from rslwm.reproduce import ours as own
from rslwm.reproduce import table as shown
from rslwm.reproduce.computed import recompute
from rslwm.reproduce.ledger import Line, lines
from rslwm.reproduce.machine import BRIDGE, SOAR, Machine
from rslwm.reproduce.paper import Table, tables
from rslwm.reproduce.results import write
from rslwm.reproduce.spaces import SPACES
from rslwm.run.progress import duration
from rslwm.serialisation import ConfigError
from rslwm.study.record import RunRecord
from rslwm.types import DataError

TAIL = 600
"""Letters of a failed command's output that are shown."""


@dataclass
class Reproduce:
    """Say of every number of the paper how far it is, and run again what can be run on this machine.

    Without flags: one line a table, and what this machine lacks. Exit code 1 if something that was run again doesn't
    come out as it should.

    For instance:
      rslwm reproduce                                    the ledger of the paper's tables
      rslwm reproduce V-JEPA --table 8                   rows of a table: command, expected, state, what lacks
      rslwm reproduce --run                              compute again what follows from sizes: Table 4, the time shifts
      rslwm reproduce --ours                             measure the cheapest of our own results again
      rslwm reproduce --record docs/results/small/ledger.json --command 'rslwm eval CHECKPOINT --metrics visual'
    """

    row: tyro.conf.Positional[str] = ""
    """Show in full the rows whose latent space has this in its name, the paper's or ours."""
    table: str = ""
    """Show this table in full (1 to 16, 'figures 2, 10', judges or gamma), or all."""
    again: Annotated[bool, tyro.conf.arg(name="run")] = False
    """Compute again what follows from sizes alone, which needs no weights and no data, and compare."""
    ours: bool = False
    """Run the cheapest commands of our own ledgers again, and compare."""
    results: Path | None = None
    """Folder of our own ledgers, NAME/ledger.json; docs/results of the checkout if it isn't given."""
    minutes: float = 5.0
    """Of our own results, as many as take no longer than this together."""
    record: Path | None = None
    """Write what --command measures into this ledger, in place of what it held of the same command."""
    command: str = ""
    """A command line of rslwm without --out, whose numbers are recorded; {here} in it is the ledger's folder."""
    finished: Path | None = None
    """Record this finished run of the command instead of running it; of `rslwm compare` its study.json knows the
    command and the time."""
    only: tuple[str, ...] = ()
    """Record these metrics only."""
    out: Path | None = None
    """Keep what --ours and --record run in this folder, where the same command goes on; with --run, write what was
    computed into this file."""
    weights: str = ""
    """A folder of published weights, as --encoder.weights."""
    bridge: str = BRIDGE
    """Where BridgeData V2 is."""
    soar: str = SOAR
    """Where SOAR is."""

    def run(self) -> int:
        if self.record:
            return self._record(self.record)
        if self.ours:
            return self._ours(self.results or checkout() / "docs/results")
        ledger = self._ledger()
        if self.again:
            return self._compute(ledger)
        machine = Machine(self.weights, self.bridge, self.soar)
        if self.table or self.row:
            for table, found in ledger:
                console().print(shown.full(table, found, machine), "", highlight=False, soft_wrap=True)
        else:
            console().print(shown.overview(ledger, machine), highlight=False)
            console().print("\nOne table in full, a command a row: rslwm reproduce --table 8", markup=False)
        return 0

    def _ledger(self) -> list[tuple[Table, list[Line]]]:
        """The tables that are asked for; raises :class:`ConfigError` if there is none of the name, or no such row."""
        names = [table.name for table in tables()]
        if self.table not in ("", "all", *names):
            raise ConfigError(f"--table {self.table!r}: there is none; tables: {', '.join(names)}, or all")
        asked = [table for table in tables() if self.table in ("", "all", table.name)]
        found = [(table, [line for line in lines(table) if self._wants(line)]) for table in asked]
        if self.row:
            found = [(table, chosen) for table, chosen in found if chosen]
        if not found:
            raise ConfigError(f"{self.row!r}: no row's latent space has that in its name; {', '.join(SPACES)}")
        return found

    def _wants(self, line: Line) -> bool:
        known = SPACES.get(line.row.space)
        names = (line.row.space, *((known.published, known.small) if known else ()))
        return any(self.row.lower() in name.lower() for name in names)

    def _compute(self, ledger: list[tuple[Table, list[Line]]]) -> int:
        with counting("networks") as bar:
            found, failed = recompute(self.table if self.table != "all" else "", bar)
        screen = console()
        made, wrong = shown.recomputed(ledger, found)
        if not made.rows and not failed:
            raise ConfigError(f"--run: nothing of --table {self.table} follows from sizes; tables 4 and gamma do")
        screen.print(made, highlight=False)
        for space, why in failed.items():
            screen.print(f"{space} not computed: {why}", markup=False)
        if self.out:
            write(found, self.out)
        screen.print(f"\n{len(made.rows) - wrong} of {len(made.rows)} numbers within their tolerance", highlight=False)
        return 1 if wrong or failed else 0

    def _ours(self, folder: Path) -> int:
        jobs = own.load(folder)
        chosen = own.within(jobs, self.minutes)
        screen = console()
        if not chosen:
            least = duration(jobs[0].seconds)
            raise ConfigError(f"--minutes {self.minutes:g}: the cheapest command on record takes {least}; allow more")
        found = list[own.Checked]()
        for job in chosen:
            screen.print(f"{job.line} ({duration(job.seconds)} on record)", markup=False, highlight=False)
            with self._folder(job) as out:
                found += job.check(execute, out)
        screen.print("", shown.checked(found), highlight=False)
        passed, left = sum(one.passed for one in found), len(jobs) - len(chosen)
        more = f"; {left} commands left out, see --minutes" if left else ""
        screen.print(f"\n{passed} of {len(found)} numbers within their tolerance{more}", highlight=False)
        return 0 if passed == len(found) else 1

    def _record(self, path: Path) -> int:
        command, seconds = self.command, 0.0
        if self.finished and not command:
            record = RunRecord.load(self.finished)
            command, seconds = record.command, sum(timing.seconds for timing in record.timings)
            command = _without_out(command)
        if not command:
            raise ConfigError("--record: name what gives the numbers with --command, or a finished run with --finished")
        if self.finished:
            entries = own.record(command, self.finished, seconds, self.only)
        else:
            job = own.Job(path, command, ())
            with self._folder(job) as out:
                began = time.monotonic()
                execute(job.line, out)
                entries = own.record(command, out, time.monotonic() - began, self.only)
        own.write(path, entries)
        console().print(f"{path}: {len(entries)} numbers of {command}", markup=False, soft_wrap=True)
        return 0

    @contextlib.contextmanager
    def _folder(self, job: own.Job) -> Iterator[Path]:
        """What a command writes to: kept below ``out``, or gone afterwards."""
        if self.out:
            yield self.out / job.key
            return
        with TemporaryDirectory(prefix="rslwm-reproduce-") as folder:
            yield Path(folder)


def checkout() -> Path:
    """The repository that this package is run from, or the current folder if it was installed without one."""
    root = Path(rslwm.__file__).parents[2]
    return root if (root / "pyproject.toml").is_file() else Path()


def execute(line: str, out: Path) -> None:
    """Do a command line of rslwm in this process, with ``out`` as its ``--out``.

    Raises:
        DataError: it is no command line of rslwm, or it failed; the message holds the end of what it printed.
    """
    from rslwm.cli.main import main

    words = shlex.split(line)
    if words[:1] != ["rslwm"] or "--out" in words or words[1:2] == ["reproduce"]:
        raise DataError(
            f"{line!r} is no command to run again: write 'rslwm ...' without --out, but not rslwm reproduce"
        )
    words = [*words[1:], "--out", str(out)]
    printed, before = io.StringIO(), sys.argv
    sys.argv = ["rslwm", *words]  # which a study keeps as the command that made it
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code: object = main(words)
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    if code:
        raise DataError(f"{line} ended with {code}: {printed.getvalue()[-TAIL:].strip()}")


def _without_out(command: str) -> str:
    """A study's command without the folder that it wrote to."""
    words = shlex.split(command)
    kept, skip = [], False
    for word in words:
        if not skip and word != "--out" and not word.startswith("--out="):
            kept.append(word)
        skip = word == "--out"
    return shlex.join(kept)
