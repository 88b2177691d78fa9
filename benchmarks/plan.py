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
from rslwm.bench import plan
from rslwm.bench.runner import measure
from rslwm.bench.world_model import SEED
from rslwm.compute import autocast, generator
from rslwm.plan.base import PlanConfig


@dataclass
class Plan(plan.Plan, Paired):
    """Pair planning whose candidates share their context's keys and values with a batch of full contexts.

    The cross-entropy method with the same random weights and the same draws on both sides. Prints the latency of a
    plan, what counting frame passes would allow, the peak memory of both, and how far the plans are apart.

    For instance:
      python -m benchmarks.plan --iterations 5
      python -m benchmarks.plan --size demo --grid 8 --channels 16 --candidates 64 --elites 8 --rounds 5
    """

    def compare(self, folder: Path) -> list[Comparison]:
        """Both planners on the same draws; plans differ by normalised actions."""
        pair = PairedPlans(self)
        answers: dict[str, Tensor] = {}

        def answer(method: str) -> None:
            answers[method] = getattr(pair, method)(self.search)

        names = {"ours": "context shared", "baseline": "context for every candidate"}
        cases = [replace(pair.case(method, name), work=partial(answer, method)) for method, name in names.items()]
        ours, baseline = measure(cases, self.rounds)
        slides = self.context + self.horizon > self.dit.max_frames
        what = "largest difference of the plans" + ", whose windows slide differently" * slides
        differs = {what: float((answers["ours"] - answers["baseline"]).abs().max())}
        title = f"CEM {self.candidates} x {self.iterations}, k = {self.horizon}"
        return [Comparison(title, ours, baseline, pair.passes["baseline"] / pair.passes["ours"], differs)]


class PairedPlans(plan.Plans):
    """The same search by either planner."""

    def __init__(self, bench: plan.Plan) -> None:
        super().__init__(bench)
        self.published = same_weights(bench.world_model())

    def baseline(self, search: PlanConfig) -> Tensor:
        """(1, k, A), with a context for every candidate."""
        drawn = generator(SEED, "bench candidates")
        with autocast(self.bench.compute):
            return planner.plan(self.published, self.context, led_here(self.actions), self.goals, search, drawn)

    @property
    def passes(self) -> dict[str, int]:
        bench = self.bench
        anew = passes(bench.horizon, bench.context, bench.steps, bench.dit.max_frames)
        return {**super().passes, "baseline": bench.candidates * bench.iterations * anew}


if __name__ == "__main__":
    main(Plan)
