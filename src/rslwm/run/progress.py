"""What a run shows while it works: live bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rslwm.run.schedule import Schedule
from rslwm.run.stage import Stage

PLAIN_SECONDS = 15.0

Clock = Callable[[], float]


def duration(seconds: float) -> str:
    """12 s, 3 min 05 s or 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Meter:
    """How far one running stage is, and when it will end; a resumed stage's head start doesn't count as speed."""

    def __init__(self, now: float) -> None:
        self.began = now
        self.done, self.total, self.message = 0, 0, ""
        self._first: tuple[float, int] | None = None

    def update(self, done: int, total: int, message: str, now: float) -> None:
        self.done, self.total, self.message = done, total, message
        if self._first is None:
            self._first = (now, done)

    @property
    def fraction(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 0.0

    def seconds_left(self, now: float) -> float | None:
        if self._first is None or self.done <= self._first[1]:
            return None
        return (now - self._first[0]) * (self.total - self.done) / (self.done - self._first[1])

    def describe(self, now: float) -> str:
        left = self.seconds_left(now)
        count = f"{self.done}/{self.total}" if self.total else ""
        return "  ".join(part for part in (count, self.message, left and f"{duration(left)} left") if part)


class Lines:
    """One plain line for each start and end, and at most one every 15 s in between."""

    def __init__(self, console: Console, schedule: Schedule, jobs: int, clock: Clock = time.monotonic) -> None:
        self.console, self.schedule, self.jobs, self.clock = console, schedule, jobs, clock
        self.began = self.spoke = clock()
        self.meters: dict[Stage, Meter] = {}

    def __enter__(self) -> Lines:
        for stage in self.schedule.all:
            if stage in self.schedule.kept:
                self.say(f"kept      {stage}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self.schedule.seconds:
            self.say(f"{self.overall()}")

    def say(self, text: str) -> None:
        self.spoke = self.clock()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def overall(self) -> str:
        """3/12 stages  2 min 10 s  about 4 min 00 s left"""
        now = self.clock()
        left = self.schedule.remaining_seconds(self.jobs, {s: m.fraction for s, m in self.meters.items()})
        count = f"{len(self.schedule.done)}/{self.schedule.total} stages"
        return "  ".join(p for p in (count, duration(now - self.began), left and f"about {duration(left)} left") if p)

    def started(self, stage: Stage) -> None:
        self.meters[stage] = Meter(self.clock())
        self.say(f"started   {stage}")

    def progressed(self, stage: Stage, done: int, total: int, message: str) -> None:
        self.meters[stage].update(done, total, message, self.clock())

    def finished(self, stage: Stage, seconds: float) -> None:
        del self.meters[stage]
        self.say(f"finished  {stage}  {duration(seconds)}")

    def failed(self, stage: Stage, why: str) -> None:
        del self.meters[stage]
        self.say(f"FAILED    {stage}  {why}")

    def tick(self) -> None:
        now = self.clock()
        if now - self.spoke >= PLAIN_SECONDS:
            running = "; ".join(f"{stage} {meter.describe(now)}" for stage, meter in self.meters.items())
            self.say(f"{self.overall()}  {running}")


class Bars(Lines):
    """Live bars: one for each running stage and one for the whole run, below the lines of what has ended."""

    def __init__(self, console: Console, schedule: Schedule, jobs: int, clock: Clock = time.monotonic) -> None:
        super().__init__(console, schedule, jobs, clock)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self.bars = Progress(*columns, console=console, refresh_per_second=5, transient=True)
        self.tasks: dict[Stage, TaskID] = {}

    def __enter__(self) -> Bars:
        super().__enter__()
        self.bars.start()
        self.whole = self.bars.add_task("all stages", total=self.schedule.total, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()
        super().__exit__(kind, error, trace)

    def started(self, stage: Stage) -> None:
        self.meters[stage] = Meter(self.clock())
        self.tasks[stage] = self.bars.add_task(str(stage), total=None, text="")

    def finished(self, stage: Stage, seconds: float) -> None:
        self.bars.remove_task(self.tasks.pop(stage))
        super().finished(stage, seconds)

    def failed(self, stage: Stage, why: str) -> None:
        self.bars.remove_task(self.tasks.pop(stage))
        super().failed(stage, why)

    def tick(self) -> None:
        now = self.clock()
        for stage, task in self.tasks.items():
            meter = self.meters[stage]
            self.bars.update(task, completed=meter.done, total=meter.total or None, text=meter.describe(now))
        self.bars.update(self.whole, completed=len(self.schedule.done), text=self.overall())


def display(console: Console, schedule: Schedule, jobs: int) -> Lines:
    """The display that suits where the console writes to."""
    return Bars(console, schedule, jobs) if console.is_terminal else Lines(console, schedule, jobs)
