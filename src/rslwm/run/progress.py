"""What a run shows while it works: live bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich import progress
from rich.console import Console

from rslwm.run.stage import Stage

if TYPE_CHECKING:
    from rslwm.run.runner import Schedule

PLAIN_SECONDS = 15.0
SPEED_SECONDS = 600.0
"""Over which a stage's speed is taken; some report once a minute."""


def duration(seconds: float) -> str:
    """12 s, 3 min 05 s or 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Display:
    """One line for each start and end. Between them, a terminal shows a live bar for each running stage and one for
    all; anything else gets at most one line every 15 s."""

    def __init__(
        self, console: Console, schedule: Schedule, jobs: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console, self.schedule, self.jobs, self.clock = console, schedule, jobs, clock
        self.live = console.is_terminal
        self.began = self.spoke = clock()
        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(24),
            progress.TextColumn("{task.fields[text]}", markup=False),
        )
        self.bars = progress.Progress(
            *columns, console=console, get_time=clock, speed_estimate_period=SPEED_SECONDS, refresh_per_second=5,
            transient=True, disable=not self.live,
        )  # fmt: skip
        self.tasks: dict[Stage[Any], progress.Task] = {}

    def __enter__(self) -> Display:
        for stage in self.schedule.all:
            if stage in self.schedule.kept:
                self.say(f"kept      {stage}")
        self.bars.start()
        self.whole = self.bars.add_task("all stages", total=self.schedule.total, text="")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bars.stop()
        if kind is None and self.schedule.took:
            self.say(self.overall())

    def say(self, text: str) -> None:
        self.spoke = self.clock()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def overall(self) -> str:
        """3/12 stages  2 min 10 s  about 4 min 00 s left"""
        fractions = {stage: task.percentage / 100 for stage, task in self.tasks.items()}
        left = self.schedule.remaining_seconds(self.jobs, fractions)
        count = f"{len(self.schedule.done)}/{self.schedule.total} stages"
        return _joined(count, duration(self.clock() - self.began), left and f"about {duration(left)} left")

    def started(self, stage: Stage[Any]) -> None:
        number = self.bars.add_task(str(stage), total=None, text="", message="")
        self.tasks[stage] = next(task for task in self.bars.tasks if task.id == number)
        if not self.live:
            self.say(f"started   {stage}")

    def advanced(self, stage: Stage[Any], done: int, total: int, message: str) -> None:
        self.bars.update(self.tasks[stage].id, completed=done, total=total or None, message=message)

    def finished(self, stage: Stage[Any], seconds: float, fetched: str = "", trouble: str = "") -> None:
        self._ended(stage, f"{'fetched ' if fetched else 'finished'}  {stage}  {duration(seconds)}")
        if trouble:
            self.say(f"          {trouble}")

    def failed(self, stage: Stage[Any], why: str) -> None:
        self._ended(stage, f"FAILED    {stage}  {why}")

    def _ended(self, stage: Stage[Any], text: str) -> None:
        self.bars.remove_task(self.tasks.pop(stage).id)
        self.say(text)

    def tick(self) -> None:
        """Show how far everything is; called a few times a second."""
        if self.live:
            for task in self.tasks.values():
                self.bars.update(task.id, text=_described(task))
            self.bars.update(self.whole, completed=len(self.schedule.done), text=self.overall())
        elif self.clock() - self.spoke >= PLAIN_SECONDS:
            running = "; ".join(f"{stage} {_described(task)}" for stage, task in self.tasks.items())
            self.say(f"{self.overall()}  {running}")


def _described(task: progress.Task) -> str:
    """How far a stage is, and when it will end; a resumed one's head start is no speed, since rich counts from the
    first report on."""
    count = f"{task.completed}/{task.total}" if task.total else ""
    left = task.time_remaining if task.total else None
    return _joined(count, task.fields["message"], left and f"{duration(left)} left")


def _joined(*parts: Any) -> str:
    return "  ".join(filter(None, parts))
