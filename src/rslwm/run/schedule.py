"""Which stage runs next: topological, longest path first, exclusive stages alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from rslwm.run.stage import Stage, closure


class Schedule:
    """The state of a run over a graph of stages.

    A stage whose output exists is kept, and what only kept stages need is not looked at, so that a folder deleted to
    save disk space is made again only when something unfinished reads it (or when it is asked for by name).
    """

    def __init__(self, stages: Iterable[Stage], finished: Callable[[Stage], bool]) -> None:
        stages = list(stages)
        self.all = closure(stages)
        self.kept = {s for s in self.all if finished(s)}
        self.waiting = self._needed(stages)
        self.running: set[Stage] = set()
        self.seconds: dict[Stage, float] = {}
        """What each stage that ended in this run took."""
        self.failed: set[Stage] = set()
        self._path = self._longest_paths()

    def _needed(self, stages: list[Stage]) -> set[Stage]:
        needed: set[Stage] = set()
        stack = list(stages)
        while stack:
            stage = stack.pop()
            if stage not in self.kept and stage not in needed:
                needed.add(stage)
                stack.extend(stage.inputs)
        return needed

    def _longest_paths(self) -> dict[Stage, float]:
        """Cost of the longest chain that begins at each stage; ``all`` lists inputs first, so one pass back will do."""
        longest: dict[Stage, float] = {}
        for stage in reversed(self.all):
            longest[stage] = stage.cost + longest.get(stage, 0.0)
            for source in stage.inputs:
                longest[source] = max(longest.get(source, 0.0), longest[stage])
        return longest

    @property
    def done(self) -> set[Stage]:
        return self.kept | self.seconds.keys()

    @property
    def total(self) -> int:
        """Stages that this run keeps or makes."""
        return len(self.done) + len(self.waiting) + len(self.running) + len(self.failed)

    @property
    def blocked(self) -> list[Stage]:
        """Waiting stages that can't run because something they need has failed."""
        lost = set(self.failed)
        for stage in self.all:
            if lost & set(stage.inputs) and stage in self.waiting:
                lost.add(stage)
        return [s for s in self.all if s in lost and s not in self.failed]

    def next(self) -> Stage | None:
        """Take the stage to start now, or None until a running one ends."""
        done = self.done
        ready = [s for s in self.all if s in self.waiting and done.issuperset(s.inputs)]
        if not ready or any(s.exclusive for s in self.running):
            return None
        stage = max(ready, key=lambda s: self._path[s])
        if stage.exclusive and self.running:
            return None
        self.waiting.remove(stage)
        self.running.add(stage)
        return stage

    def finish(self, stage: Stage, seconds: float) -> None:
        self.running.remove(stage)
        self.seconds[stage] = seconds

    def fail(self, stage: Stage) -> None:
        self.running.remove(stage)
        self.failed.add(stage)

    def remaining_seconds(self, jobs: int, fractions: Mapping[Stage, float]) -> float:
        """Estimate of the time left: the longer of the longest chain and of the work shared by ``jobs``.

        ``fractions`` says how much of a running stage is done. Costs are scaled by how the stages that ended in this
        run compare with theirs, as if a tenth of the work had ended as estimated: one quick first stage is no trend.
        """
        blocked = set(self.blocked)
        left = {s: s.cost * (1 - fractions.get(s, 0.0)) for s in self.waiting | self.running if s not in blocked}
        chains: dict[Stage, float] = {}
        for stage in self.all:
            chains[stage] = left.get(stage, 0.0) + max((chains[s] for s in stage.inputs), default=0.0)
        work = sum(cost * (jobs if stage.exclusive else 1) for stage, cost in left.items()) / jobs
        prior = 0.1 * sum(s.cost for s in self.all)
        expected = prior + sum(s.cost for s in self.seconds)
        pace = (prior + sum(self.seconds.values())) / expected if expected else 1.0
        return pace * max(work, max(chains.values(), default=0.0))
