"""Which stage runs next: topological, longest path first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rslwm.run.stage import Stage, closure


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
        """Take the stage to start now, or None until there is room.

        Nothing overtakes the one that is due: small ones would keep a large one out for ever.
        """
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
        """Estimate of the time left: the longer of the longest chain and of the work shared by ``jobs``.

        ``fractions`` says how much of a running stage is done. Estimates are scaled by how the stages that ended in
        this run compare with theirs, as if a tenth of the work had ended as estimated: one quick first stage is no
        trend.
        """
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
