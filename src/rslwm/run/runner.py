"""Runs a study's stages: in order, in parallel, each once, and after a kill from where it stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from rslwm.processes import cores
from rslwm.run.lock import locked
from rslwm.run.pool import Event, Pool
from rslwm.run.progress import Lines, display
from rslwm.run.schedule import Schedule
from rslwm.run.stage import LOG, RECORD, Stage, StageRecord, Workspace, closure
from rslwm.run.worker import LOCK, Done, Failed, Job, Progress
from rslwm.serialisation import ConfigError
from rslwm.types import DataError

__all__ = ["Estimate", "Runner", "Stage", "StageFailed", "StageRecord", "Workspace"]

STOPPED = "stopped; run the same command again to resume"
NAMED = 4  # a failed recording blocks every stage of a study; nobody reads them all
TICK_SECONDS = 0.2
LOCK_SECONDS = 3.0  # workers of a run that was killed just now take about a second to die


class StageFailed(RuntimeError):
    """At least one stage failed; what did not depend on it has been run. ``stages`` are the failed ones."""

    def __init__(self, stages: Sequence[Stage], message: str) -> None:
        super().__init__(message)
        self.stages = list(stages)


@dataclass(frozen=True)
class Estimate:
    """A stage before it runs: where its output goes, whether that exists, and the seconds it is expected to take."""

    stage: Stage
    folder: Path
    state: Literal["finished", "interrupted", "new"]
    seconds: float


class Runner:
    """Runs stages below ``root/stages``, a folder each: ``<kind>-<key>``, or ``<kind>-<key>.partial`` until it ends.

    ``jobs`` worker processes (0: as many as fit the cores) run side by side with ``threads_per_job`` threads each. What
    a stage writes doesn't depend on ``jobs``.
    """

    def __init__(self, root: Path, jobs: int = 0, threads_per_job: int = 1, console: Console | None = None) -> None:
        if jobs < 0 or threads_per_job < 1:
            raise ConfigError(f"jobs={jobs} must be 0 or more, and threads_per_job={threads_per_job} at least 1")
        self.root = Path(root).absolute()
        self.threads = threads_per_job
        self.jobs = jobs or max(1, cores() // threads_per_job)
        self.console = console or Console(stderr=True)

    def folder(self, stage: Stage) -> Path:
        """Where the stage's output is, once it is finished."""
        return self.root / "stages" / f"{stage.kind}-{stage.key}"

    def finished(self, stage: Stage) -> bool:
        return (self.folder(stage) / RECORD).is_file()

    def estimate(self, stages: Sequence[Stage]) -> list[Estimate]:
        """What a run would do, inputs first. Touches nothing."""
        return [self._estimate(stage) for stage in closure(stages)]

    def _estimate(self, stage: Stage) -> Estimate:
        job = Job(stage, [], self.folder(stage))
        if self.finished(stage):
            return Estimate(stage, job.folder, "finished", 0.0)
        return Estimate(stage, job.folder, "interrupted" if job.partial.exists() else "new", stage.cost)

    def run(self, stages: Sequence[Stage]) -> dict[Stage, Path]:
        """Make the outputs of these stages and of what they need; returns the folder of every finished one.

        A finished stage is never run again. When one fails, everything that doesn't need it still runs, then the error
        is raised: one bad encoder must not cost a night. Ctrl-C stops all workers and exits with code 130.

        Raises:
            StageFailed: names every failed stage, its log file and a remedy.
            ConfigError: another run uses the same folder, or the folder can't be made.
            DataError: a stage's folder is there but not finished (it was tampered with).
        """
        try:
            with self.alone():
                return self._run_locked(stages)
        except KeyboardInterrupt:
            self.console.print(STOPPED)
            raise SystemExit(130) from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other run out of the folder, also while results are put together from the finished stages.

        Raises:
            ConfigError: another run uses the folder, or it can't be made.
        """
        try:
            (self.root / "stages").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"can't make the output folder {self.root}: {error}. Write to another folder.") from None
        with locked(self.root / LOCK, LOCK_SECONDS):
            yield

    def reopen(self, stage: Stage) -> None:
        """Let a finished stage run again, from what it left in its folder."""
        partial = Job(stage, [], self.folder(stage)).partial
        self.folder(stage).rename(partial)
        (partial / RECORD).unlink()

    def _run_locked(self, stages: Sequence[Stage]) -> dict[Stage, Path]:
        schedule = Schedule(stages, self.finished)
        for folder in map(self.folder, schedule.waiting):
            if folder.exists():
                raise DataError(f"{folder} has no {RECORD}, so it isn't the output of a finished stage. Delete it.")
        with display(self.console, schedule, self.jobs) as view, Pool(self.jobs, self.threads) as pool:
            failures = self._drive(schedule, pool, view)
        if failures:
            raise StageFailed(list(failures), self._explain(failures, schedule.blocked))
        return {stage: self.folder(stage) for stage in schedule.all if stage in schedule.done}

    def _drive(self, schedule: Schedule, pool: Pool, view: Lines) -> dict[Stage, Failed]:
        failures: dict[Stage, Failed] = {}
        due = 0.0
        while True:
            while pool.free and (stage := schedule.next()) is not None:
                pool.start(Job(stage, [self.folder(s) for s in stage.inputs], self.folder(stage)))
                view.started(stage)
            if not schedule.running:
                return failures
            for stage, event in pool.poll(TICK_SECONDS):
                self._handle(stage, event, schedule, view)
                if isinstance(event, Failed):
                    failures[stage] = event
            if time.monotonic() >= due:
                due = time.monotonic() + TICK_SECONDS
                view.tick()

    def _handle(self, stage: Stage, event: Event, schedule: Schedule, view: Lines) -> None:
        match event:
            case Progress(done, total, message):
                view.progressed(stage, done, total, message)
            case Done(seconds):
                schedule.finish(stage, seconds)
                view.finished(stage, seconds)
            case Failed(why):
                schedule.fail(stage)
                view.failed(stage, why)

    def _explain(self, failures: dict[Stage, Failed], blocked: list[Stage]) -> str:
        lines = []
        for stage, failure in failures.items():
            log = Job(stage, [], self.folder(stage)).partial / LOG
            place = f" Log: {log}." if log.exists() else ""
            lines.append(
                f"stage {stage} failed: {failure.why}.{place} {failure.remedy}, then run the same command again."
            )
        if blocked:
            more = f" and {len(blocked) - NAMED} more" if len(blocked) > NAMED else ""
            lines.append(f"not run because they need it: {', '.join(map(str, blocked[:NAMED]))}{more}.")
        lines.append("Finished stages are kept; a failed one resumes from what it saved.")
        return "\n".join(lines)
