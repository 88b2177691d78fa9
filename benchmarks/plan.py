"""How fast a plan is found, against candidates that are a batch of full contexts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from benchmarks.comparison import Comparison, Paired, main
from benchmarks.rollout import passes
from benchmarks.straightforward import planner
from benchmarks.straightforward.sampler import led_here, same_weights
from rslwm.bench import generation
from rslwm.bench.generation import Plans
from rslwm.bench.measure import measure
from rslwm.bench.world_model import SEED
from rslwm.compute import autocast, generator
from rslwm.plan.base import PlanConfig


@dataclass
class Plan(generation.Plan, Paired):
    """Pair planning whose candidates share their context's keys and values with a batch of full contexts.

    The cross-entropy method with the same random weights and the same draws on both sides. Prints the latency of a
    plan, what counting frame passes would allow, the peak memory of both, and how far the plans are apart.

    For instance:
      python -m benchmarks.plan --iterations 5
      python -m benchmarks.plan --size demo --grid 8 --channels 16 --candidates 64 --elites 8 --rounds 5
    """

    def compare(self, folder: Path) -> list[Comparison]:
        """Both planners on the same draws; plans differ by normalised actions."""
        shared, whole = Plans(self), WholeContexts(self)
        answers: dict[str, Tensor] = {}

        def answer(side: Plans) -> None:
            answers[side.name] = side.plan(self.search)

        ours, baseline = measure(
            [replace(side.case, work=partial(answer, side)) for side in (shared, whole)], self.rounds
        )
        slides = self.context + self.horizon > self.dit.max_frames
        what = "largest difference of the plans" + ", whose windows slide differently" * slides
        found, expected = answers.values()
        differs = {what: float((found - expected).abs().max())}
        title = f"CEM {self.candidates} x {self.iterations}, k = {self.horizon}"
        return [Comparison(title, ours, baseline, whole.passes / shared.passes, differs)]


class WholeContexts(Plans):
    """The same search by the straightforward planner."""

    name = "context for every candidate"

    def __init__(self, bench: generation.Plan) -> None:
        super().__init__(bench)
        self.published = same_weights(bench.world_model())

    def plan(self, search: PlanConfig) -> Tensor:
        drawn = generator(SEED, "bench candidates")
        with autocast(self.bench.compute):
            return planner.plan(self.published, self.context, led_here(self.actions), self.goals, search, drawn)

    @property
    def passes(self) -> int:
        bench = self.bench
        anew = passes(bench.horizon, bench.context, bench.steps, bench.dit.max_frames)
        return bench.candidates * bench.iterations * anew


if __name__ == "__main__":
    main(Plan)
