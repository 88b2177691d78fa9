"""A study that is killed again and again, and ends with the rows of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from benchmarks.processes import descendants
from benchmarks.ray_cluster import RayCluster
from rslwm.cli.flags import parse
from rslwm.cli.main import EXPECTED
from rslwm.evals.rows import DTYPES, Rows
from rslwm.run.events import EVENTS
from rslwm.run.progress import duration
from rslwm.run.stage import RECORD, StageRecord

LEDGER = "kills.jsonl"
ROWS = "rows.parquet"
HEAD = "head"
TICK = 0.05
UNDISTURBED = "undisturbed"
HELPER = "multiprocessing.resource_tracker"
"""A process that outlives a worker to clear up behind it, and ends by itself."""

Victim = tuple[str, int]
"""What a process is, and its number."""


class NotTheSame(RuntimeError):
    """What kills must not change has changed, or a study failed that nobody had killed."""


@dataclass
class Kills:
    """Kill a study at random moments, run the same command again, and go on until so many kills have been delivered.

    A kill is SIGKILL to the command, to one of its workers, or to a process that a worker has started; with Ray to one
    of its workers. When a study has ended, its rows must be those of an undisturbed run to the last bit, and no stage
    that was finished at some kill may have been made again. Then the next study begins, in a folder of its own.

    Stopped, the same command goes on from what kills.jsonl in the folder says.

    For instance:
      python -m benchmarks.kills --out runs/kills
      python -m benchmarks.kills --out runs/ray_kills --executor ray --kills 10 --heads 1
    """

    out: Path = Path("runs/kills")
    """Folder of the studies."""
    kills: int = 100
    """How many."""
    heads: int = 0
    """How many of them are of Ray's head."""
    gap: tuple[float, float] = (1.0, 12.0)
    """Fewest and most seconds from the first stage that the command starts, or from the last kill, to the next one."""
    early: float = 0.1
    """Share of kills whose seconds count from the start of the command, which may not have started a stage by then."""
    seed: int = 0
    """Of moments and victims."""
    executor: Literal["local", "ray"] = "local"
    """Where stages run: here, or on a Ray cluster that is started on this machine."""
    study: str = "smoke --latents small-dino+16 --metrics core,counterfactuals --robustness distractors"
    """What follows on `rslwm compare`; this one has a stage of every kind."""

    def run(self) -> None:
        if self.heads and self.executor != "ray":
            raise SystemExit("--heads: only Ray has a head; add --executor ray")
        self.out.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(self.out / LEDGER)
        undisturbed = self.out / UNDISTURBED
        if not (undisturbed / ROWS).exists():
            say("one study that nobody disturbs")
            began = time.monotonic()
            run_once(self.command(undisturbed, "local"), self.out / f"{UNDISTURBED}.log")
            ledger.add(study=UNDISTURBED, seconds=round(time.monotonic() - began, 1))
        with self.cluster() as cluster:
            environment = cluster.environment if cluster else None
            executor = f"ray[address={cluster.address}]" if cluster else "local"
            while ledger.kills < self.kills or ledger.begun:
                folder = self.out / f"study-{ledger.studies:03d}"
                disturbed(self.command(folder, executor), folder, ledger, self.killer(ledger, cluster), environment)
                ledger.add(study=folder.name, **require_same(folder, undisturbed, ledger.finished(folder.name)))
                say(ledger.summary())

    def command(self, folder: Path, executor: str) -> list[str]:
        words = shlex.split(self.study)
        return [sys.executable, "-m", "rslwm", "compare", *words, "--out", str(folder), "--executor", executor]

    def cluster(self) -> AbstractContextManager[RayCluster | None]:
        return RayCluster(self.out / "ray") if self.executor == "ray" else nullcontext()

    def killer(self, ledger: Ledger, cluster: RayCluster | None) -> Killer:
        return Killer(ledger, self.kills, self.gap, self.early, self.seed, cluster, self.heads)


class Ledger:
    """A JSON line a kill, with the stages that were finished then, and one for each study that has ended."""

    def __init__(self, file: Path) -> None:
        self.file, self._began = file, time.monotonic()
        text = file.read_text() if file.exists() else ""
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
        self._before = self.kills

    def add(self, **line: Any) -> None:
        self.lines.append(line)
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    @property
    def delivered(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "killed" in line]

    @property
    def kills(self) -> int:
        return len(self.delivered)

    @property
    def ended(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "rows" in line]

    @property
    def studies(self) -> int:
        return len(self.ended)

    @property
    def begun(self) -> bool:
        """Whether the present study has been killed and hasn't ended."""
        return any(line["study"] == f"study-{self.studies:03d}" for line in self.delivered)

    def finished(self, study: str) -> list[dict[str, int]]:
        """Which stages were finished, and when, at every kill of a study."""
        return [line["finished"] for line in self.delivered if line["study"] == study]

    def left(self, total: int) -> str:
        """How long the rest will take at the pace so far."""
        if not (new := self.kills - self._before):
            return ""
        return f", about {duration((time.monotonic() - self._began) / new * (total - self.kills))} left"

    def summary(self) -> str:
        by = {what: sum(line["killed"] == what for line in self.delivered) for what in ("command", "worker", HEAD)}
        named = ", ".join(f"{count} of a {what}" for what, count in by.items() if count)
        studies = self.ended
        seconds = sum(line["seconds"] for line in studies)
        resumed, rows = (sum(line[name] for line in studies) for name in ("resumed", "rows"))
        return (
            f"{self.kills} kills ({named}); {len(studies)} studies ended with the rows of the undisturbed one, "
            f"{rows} in all; {resumed} stages went on after a kill, 0 finished ones were made again; stages took "
            f"{seconds:.0f} s"
        )


@dataclass
class Killer:
    """Chooses moments and victims, and kills them."""

    ledger: Ledger
    total: int
    gap: tuple[float, float]
    early: float = 0.0
    seed: int = 0
    cluster: RayCluster | None = None
    heads: int = 0

    def wait(self, process: subprocess.Popen[bytes], folder: Path, started: int) -> int | None:
        """Wait for the moment of the next kill, or for the end of the process, whose exit code it then returns;
        ``started`` stages of the folder are of commands before it."""
        if self.ledger.kills >= self.total:
            return process.wait()
        draw = self._draw("moment")
        begun, left = draw.random() < self.early, draw.uniform(*self.gap)
        while left > 0 and process.poll() is None:
            time.sleep(TICK)
            begun = begun or _started(folder) > started
            left -= TICK * begun
        return process.poll()

    def kill(self, folder: Path, command: int) -> bool:
        """Deliver one; returns whether whoever runs the study has to start the command again."""
        draw, heads = self._draw("victim"), sum(line["killed"] == HEAD for line in self.ledger.delivered)
        what, victim = draw.choice(self._victims(command))
        if self.cluster and self.ledger.kills >= (heads + 1) * self.total // (self.heads + 1) and heads < self.heads:
            what, victim = HEAD, self.cluster.head
        finished = made(folder)
        os.kill(victim, signal.SIGKILL)
        self.ledger.add(study=folder.name, killed=what, finished=finished)
        done = f"{self.ledger.kills} of {self.total}"
        say(f"{done}: a {what}, with {len(finished)} stages finished{self.ledger.left(self.total)}")
        return what != "worker"

    def _victims(self, command: int) -> list[Victim]:
        if self.cluster:
            return [("worker", pid) for pid in self.cluster.workers()] or [("command", command)]
        workers = [pid for pid, line in descendants(command).items() if HELPER not in line]
        return [("command", command), *(("worker", pid) for pid in workers)]

    def _draw(self, concern: str) -> Random:
        return Random(f"{self.seed} {concern} {self.ledger.kills}")


def disturbed(
    command: Sequence[str], folder: Path, ledger: Ledger, killer: Killer, environment: dict[str, str] | None = None
) -> None:
    """Run a command, again after each of its ends, until it ends well. Raises :class:`NotTheSame` if it fails without
    having been disturbed."""
    while True:
        before, events = ledger.kills, _started(folder)
        with folder.with_suffix(".log").open("a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        while (code := killer.wait(process, folder, events)) is None:
            if killer.kill(folder, process.pid):
                code = process.wait()
                break
        if code == 0:
            return
        if killer.cluster:  # its head may be gone, or going
            killer.cluster.start()
        if ledger.kills == before:
            raise NotTheSame(f"{shlex.join(command)} ended with exit code {code}; see {folder.with_suffix('.log')}")


def _started(folder: Path) -> int:
    """How many stages all commands so far have started."""
    events = folder / EVENTS
    return events.read_text().count('"event": "started"') if events.exists() else 0


def run_once(command: Sequence[str], log: Path) -> None:
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=file, check=False).returncode
    if code:
        raise NotTheSame(f"{shlex.join(command)} ended with exit code {code}; see {log}")


def made(folder: Path) -> dict[str, int]:
    """The finished stages of a run, and when each was."""
    return {path.parent.name: path.stat().st_mtime_ns for path in sorted(folder.glob(f"stages/*/{RECORD}"))}


def made_again(folder: Path, finished: Sequence[dict[str, int]]) -> list[str]:
    """Stages that were finished at a kill, and are others now, or were started later on."""
    now = made(folder)
    again = {name for then in finished for name, when in then.items() if now.get(name) != when}
    ended = set[str]()
    for line in map(json.loads, (folder / EVENTS).read_text().splitlines()):
        name = f"{line['kind']}-{line['key']}"
        again |= {name} & ended if line["event"] == "started" else set()
        ended |= {name} if line["event"] == "finished" else set()
    return sorted(again)


def require_same(folder: Path, undisturbed: Path, finished: Sequence[dict[str, int]]) -> dict[str, Any]:
    """Figures of a study that has ended. Raises :class:`NotTheSame` for other rows, or a stage that was made twice."""
    ours, theirs = (Rows.load(at / ROWS) for at in (folder, undisturbed))
    for name in DTYPES:
        if _bytes(ours, name) != _bytes(theirs, name):
            raise NotTheSame(f"{folder / ROWS}: column {name!r} isn't that of {undisturbed / ROWS}")
    if again := made_again(folder, finished):
        raise NotTheSame(f"{folder}: finished stages were made again: {', '.join(again)}")
    records = [StageRecord.read(folder / "stages" / name) for name in made(folder)]
    resumed = sum(record.attempts - 1 for record in records)
    return {"rows": len(ours), "resumed": resumed, "seconds": round(sum(record.seconds for record in records), 1)}


def _bytes(rows: Rows, name: str) -> Any:
    """NaNs are told from numbers and equal each other."""
    return rows[name].tobytes() if rows[name].dtype.kind == "f" else rows[name].tolist()


say: Callable[[str], None] = lambda text: print(text, flush=True)  # noqa: E731


def main() -> None:
    try:
        parse(Kills, "python -m benchmarks.kills", sys.argv[1:]).run()
    except (*EXPECTED, NotTheSame) as error:
        sys.exit(f"python -m benchmarks.kills: {error}")


if __name__ == "__main__":
    main()
