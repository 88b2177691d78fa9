"""An executor of one's own: in this process, one stage at a time, so that what a test has changed here counts."""

from typing import Any

from rslwm.run.executors.base import Event, Executor
from rslwm.run.perform import Job, perform
from rslwm.run.stage import Stage

HERE = f"{__file__}:Here"


class Here(Executor):
    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self.events: list[tuple[Stage[Any], Event]] = []

    def room(self, job: Job) -> bool:
        return not self.events

    def start(self, job: Job) -> None:
        self.events.append((job.stage, perform(job)))

    def poll(self, seconds: float) -> list[tuple[Stage[Any], Event]]:
        events, self.events = self.events, []
        return events

    def close(self) -> None:
        pass
