"""What a run shows while it works: live bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich import progress
from rich.console import Console

from rslwm.run.schedule import Schedule
from rslwm.run.stage import Stage

PLAIN_SECONDS = 15.0


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

    def __init__(self) -> None:
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


class Display:
    """One line for each start and end. Between them, a terminal shows a live bar for each running stage and one for
    all; anything else gets at most one line every 15 s."""

    def __init__(
        self, console: Console, schedule: Schedule, jobs: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console, self.schedule, self.jobs, self.clock = console, schedule, jobs, clock
        self.live = console.is_terminal
        self.began = self.spoke = clock()
        self.meters: dict[Stage[Any], Meter] = {}
        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(24),
            progress.TextColumn("{task.fields[text]}", markup=False),
        )
        self.bars = progress.Progress(
            *columns, console=console, refresh_per_second=5, transient=True, disable=not self.live
        )
        self.tasks: dict[Stage[Any], progress.TaskID] = {}

    def __enter__(self) -> Display:
        for stage in self.schedule.all:
            if stage in self.schedule.kept:
                self.say(f"kept      {stage}")
        self.bars.start()
        self.whole = self.bars.add_task("all stages", total=self.schedule.total, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()
        if kind is None and self.schedule.took:
            self.say(self.overall())

    def say(self, text: str) -> None:
        self.spoke = self.clock()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def overall(self) -> str:
        """3/12 stages  2 min 10 s  about 4 min 00 s left"""
        now = self.clock()
        left = self.schedule.remaining_seconds(self.jobs, {s: m.fraction for s, m in self.meters.items()})
        count = f"{len(self.schedule.done)}/{self.schedule.total} stages"
        return "  ".join(p for p in (count, duration(now - self.began), left and f"about {duration(left)} left") if p)

    def started(self, stage: Stage[Any]) -> None:
        self.meters[stage] = Meter()
        self.tasks[stage] = self.bars.add_task(str(stage), total=None, text="")
        if not self.live:
            self.say(f"started   {stage}")

    def advanced(self, stage: Stage[Any], done: int, total: int, message: str) -> None:
        self.meters[stage].update(done, total, message, self.clock())

    def finished(self, stage: Stage[Any], seconds: float) -> None:
        self._ended(stage, f"finished  {stage}  {duration(seconds)}")

    def failed(self, stage: Stage[Any], why: str) -> None:
        self._ended(stage, f"FAILED    {stage}  {why}")

    def _ended(self, stage: Stage[Any], text: str) -> None:
        del self.meters[stage]
        self.bars.remove_task(self.tasks.pop(stage))
        self.say(text)

    def tick(self) -> None:
        """Show how far everything is; called a few times a second."""
        now = self.clock()
        if self.live:
            for stage, meter in self.meters.items():
                text = meter.describe(now)
                self.bars.update(self.tasks[stage], completed=meter.done, total=meter.total or None, text=text)
            self.bars.update(self.whole, completed=len(self.schedule.done), text=self.overall())
        elif now - self.spoke >= PLAIN_SECONDS:
            running = "; ".join(f"{stage} {meter.describe(now)}" for stage, meter in self.meters.items())
            self.say(f"{self.overall()}  {running}")
