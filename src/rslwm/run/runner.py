"""Runs stages: in order, in parallel, each once, and after a kill from where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from rslwm.processes import cores
from rslwm.run import plan
from rslwm.run.cache import Cache, address
from rslwm.run.events import EVENTS, EventLog
from rslwm.run.executors.base import Advanced, Event, Executor, chosen
from rslwm.run.lock import locked
from rslwm.run.perform import Done, Failed, Job
from rslwm.run.progress import Display
from rslwm.run.stage import LOCK, LOG, RECORD, Demand, Stage, Workspace, closure
from rslwm.serialisation import ConfigError
from rslwm.types import DataError

STOPPED = "stopped; run the same command again to resume"
NAMED = 4  # a failed recording blocks every stage of a study; nobody reads them all
TICK_SECONDS = 0.2
LOCK_SECONDS = 3.0  # workers of a run that was killed just now take about a second to die


class Schedule:
    """The state of a run over a graph of stages.

    A stage whose output exists is kept, and what only kept stages need is not looked at, so that a folder deleted to
    save disk space is made again only when something unfinished reads it (or when it is asked for by name).
    """

    def __init__(self, stages: Iterable[Stage[Any]], finished: Callable[[Stage[Any]], bool]) -> None:
        stages = list(stages)
        self.all = closure(stages)
        self.kept = {s for s in self.all if finished(s)}
        self.waiting = self._needed(stages)
        self.running: set[Stage[Any]] = set()
        self.took: dict[Stage[Any], float] = {}
        """Seconds of each stage that ended well in this run."""
        self.failed: set[Stage[Any]] = set()
        self._cost = {s: s.seconds for s in self.all}
        self._path = self._longest_paths()

    def _needed(self, stages: list[Stage[Any]]) -> set[Stage[Any]]:
        needed = {stage for stage in stages if stage not in self.kept}
        for stage in reversed(self.all):
            if stage in needed:
                needed |= set(stage.needs.values()) - self.kept
        return needed

    def _longest_paths(self) -> dict[Stage[Any], float]:
        """Seconds of the longest chain from each stage on; ``all`` lists needs first, so one pass back will do."""
        longest: dict[Stage[Any], float] = {}
        for stage in reversed(self.all):
            longest[stage] = self._cost[stage] + longest.get(stage, 0.0)
            for need in stage.needs.values():
                longest[need] = max(longest.get(need, 0.0), longest[stage])
        return longest

    @property
    def done(self) -> set[Stage[Any]]:
        return self.kept | self.took.keys()

    @property
    def total(self) -> int:
        """Stages that this run keeps or makes."""
        return len(self.done) + len(self.waiting) + len(self.running) + len(self.failed)

    @property
    def blocked(self) -> list[Stage[Any]]:
        """Waiting stages that can't run because something they need has failed."""
        lost = set(self.failed)
        for stage in self.all:
            if stage in self.waiting and not lost.isdisjoint(stage.needs.values()):
                lost.add(stage)
        return [s for s in self.all if s in lost and s not in self.failed]

    @property
    def ready(self) -> list[Stage[Any]]:
        """Waiting stages that have all they need; the one that is due comes first."""
        done = self.done
        ready = [s for s in self.all if s in self.waiting and done.issuperset(s.needs.values())]
        return sorted(ready, key=lambda s: -self._path[s])

    def next(self, room: Callable[[Stage[Any]], bool]) -> Stage[Any] | None:
        """Take the stage to start now, or None until there is room: nothing overtakes the one that is due, since small
        ones would keep a large one out for ever."""
        stage = next(iter(self.ready), None)
        if stage is None or not room(stage):
            return None
        self.waiting.remove(stage)
        self.running.add(stage)
        return stage

    def finish(self, stage: Stage[Any], seconds: float) -> None:
        self.running.remove(stage)
        self.took[stage] = seconds

    def fail(self, stage: Stage[Any]) -> None:
        self.running.remove(stage)
        self.failed.add(stage)

    def remaining_seconds(self, jobs: int, fractions: Mapping[Stage[Any], float]) -> float:
        """Estimate of the time left: the longer of the longest chain and of the work shared by ``jobs``, less the done
        ``fractions`` of running stages. It is scaled by how the stages that ended in this run compare with their
        estimates, as if a tenth of the work had ended as estimated: one quick first stage is no trend."""
        blocked = set(self.blocked)
        left = {s: self._cost[s] * (1 - fractions.get(s, 0.0)) for s in self.waiting | self.running if s not in blocked}
        chains: dict[Stage[Any], float] = {}
        for stage in self.all:
            chains[stage] = left.get(stage, 0.0) + max((chains[s] for s in stage.needs.values()), default=0.0)
        work = sum(seconds * (jobs if stage.exclusive else 1) for stage, seconds in left.items()) / jobs
        prior = 0.1 * sum(self._cost.values())
        expected = prior + sum(self._cost[s] for s in self.took)
        pace = (prior + sum(self.took.values())) / expected if expected else 1.0
        return pace * max(work, max(chains.values(), default=0.0))


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: the folders of all that is finished, what failed, and what didn't run as it needs that."""

    folders: dict[Stage[Any], Path]
    failed: dict[Stage[Any], Failed]
    blocked: list[Stage[Any]]


class StageFailed(RuntimeError):
    """At least one stage failed that a run can't do without; what did not depend on it has been run."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Runner:
    """Runs stages below ``root/stages``, a folder each: ``<kind>-<key>``, or ``<kind>-<key>.partial`` until it ends.

    ``jobs`` stages (0: as many as fit the cores) run side by side with ``threads_per_job`` threads each. What a stage
    writes doesn't depend on ``jobs``, nor on the executor, which :func:`rslwm.run.executors.base.chosen` reads; one
    that runs stages elsewhere asks ``demand`` what they take. ``events.jsonl`` gets what becomes of them. A stage that
    ``cache`` has, an address or a folder, is fetched instead of made, and pushed there once it is made. One fails that
    takes more than ``limit`` seconds; 0 is no limit.
    """

    def __init__(
        self,
        root: Path,
        jobs: int = 0,
        threads_per_job: int = 1,
        console: Console | None = None,
        executor: str = "local",
        demand: Callable[[Stage[Any]], Demand] = lambda stage: Demand(),
        cache: str = "",
        limit: float = 0.0,
    ) -> None:
        if jobs < 0 or threads_per_job < 1:
            raise ConfigError(f"jobs={jobs} must be 0 or more, and threads_per_job={threads_per_job} at least 1")
        if limit < 0:
            raise ConfigError(f"compute.stage_minutes is {limit / 60:g}; 0 is no limit")
        self.root = Path(root).absolute()
        self.threads, self.limit = threads_per_job, limit
        self.executor, self._settings = chosen(executor)
        self.jobs = jobs if self.elsewhere else jobs or max(1, cores() // threads_per_job)
        self.console = console or Console(stderr=True)
        self.demand = demand
        self.cache = address(cache)

    @property
    def elsewhere(self) -> bool:
        """Whether stages run on other machines than this one."""
        return self.executor.elsewhere

    @property
    def workspace(self) -> Workspace:
        """What opens finished stages, and has their folders and facts."""
        return Workspace(self.root, self.root / "stages")

    def job(self, stage: Stage[Any]) -> Job:
        return Job(stage, self.root / "stages", self.threads, cache=self.cache, limit=self.limit)

    def folder(self, stage: Stage[Any]) -> Path:
        """Where the stage's output is, once it is finished."""
        return self.job(stage).folder

    def log(self, stage: Stage[Any]) -> Path:
        """What an unfinished stage printed; not there if it wasn't started."""
        return self.job(stage).partial / LOG

    def finished(self, stage: Stage[Any]) -> bool:
        return self.job(stage).finished

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other run out of the folder, also while results are put together from the finished stages. Raises
        :class:`ConfigError` if one uses it, or it can't be made."""
        try:
            (self.root / "stages").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"can't make the output folder {self.root}: {error}. Write to another folder.") from None
        with locked(self.root / LOCK, LOCK_SECONDS):
            yield

    def run(self, stages: Sequence[Stage[Any]]) -> Outcome:
        """Make the outputs of these stages and of what they need, but for those that are finished.

        When one fails, everything that doesn't need it still runs: one bad encoder must not cost a night.

        Raises:
            StageFailed: a stage that isn't ``spared`` failed, or needs one that did; names all, their logs, remedies.
            ConfigError: another run uses the same folder, or the folder can't be made.
            DataError: a stage's folder is there but not finished (it was tampered with).
            KeyboardInterrupt: says how to go on.
        """
        try:
            with self.alone():
                outcome = self._run(stages)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(STOPPED) from None
        if not all(stage.spared for stage in [*outcome.failed, *outcome.blocked]):
            raise StageFailed(outcome, self._explain(outcome))
        return outcome

    def _run(self, stages: Sequence[Stage[Any]]) -> Outcome:
        schedule = Schedule(stages, self.finished)
        for folder in map(self.folder, schedule.waiting):
            if folder.exists():
                raise DataError(f"{folder} has no {RECORD}, so it isn't the output of a finished stage. Delete it.")
        plan.note(self.root, stages)
        if self.cache and schedule.waiting:
            Cache(self.cache).check()
        jobs = {stage: self._declared(stage) for stage in schedule.all if stage in schedule.waiting}
        with closing(self.executor(self.jobs, **self._settings)) as executor:
            executor.prepare([*jobs.values()])
            with Display(self.console, schedule, executor.jobs) as display, EventLog(self.root / EVENTS) as log:
                failed = self._drive(schedule, jobs, executor, display, log)
        done = schedule.done
        return Outcome({s: self.folder(s) for s in schedule.all if s in done}, failed, schedule.blocked)

    def _declared(self, stage: Stage[Any]) -> Job:
        job = self.job(stage)
        return replace(job, demand=self.demand(stage)) if self.elsewhere else job

    def _drive(
        self, schedule: Schedule, jobs: Mapping[Stage[Any], Job], executor: Executor, display: Display, log: EventLog
    ) -> dict[Stage[Any], Failed]:
        failed, due = dict[Stage[Any], Failed](), 0.0
        while schedule.running or schedule.ready:
            while (stage := schedule.next(lambda stage: executor.room(jobs[stage]))) is not None:
                executor.start(jobs[stage])
                display.started(stage)
                log.started(stage)
            for stage, event in executor.poll(TICK_SECONDS):
                match event:
                    case Done(seconds):
                        schedule.finish(stage, seconds)
                    case Failed():
                        failed[stage] = event
                        schedule.fail(stage)
                _tell(display, stage, event)
                _tell(log, stage, event)
            if time.monotonic() >= due:
                due = time.monotonic() + TICK_SECONDS
                display.tick()
        return failed

    def _explain(self, outcome: Outcome) -> str:
        lines = []
        for stage, failure in outcome.failed.items():
            place = f" Log: {log}." if (log := self.log(stage)).exists() else ""
            what = f"stage {stage} failed: {failure.why.rstrip('.')}.{place}"
            lines.append(f"{what} {failure.remedy}, then run the same command again.")
        if blocked := outcome.blocked:
            more = f" and {len(blocked) - NAMED} more" if len(blocked) > NAMED else ""
            lines.append(f"not run because they need it: {', '.join(map(str, blocked[:NAMED]))}{more}.")
        lines.append("Finished stages are kept; a failed one resumes from what it saved.")
        return "\n".join(lines)


def _tell(view: Display | EventLog, stage: Stage[Any], event: Event) -> None:
    match event:
        case Advanced(done, total, message):
            view.advanced(stage, done, total, message)
        case Done(seconds, fetched, trouble):
            view.finished(stage, seconds, fetched, trouble)
        case Failed(why):
            view.failed(stage, why)
