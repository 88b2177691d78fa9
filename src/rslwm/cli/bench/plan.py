"""rslwm bench plan"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from rslwm.bench.config import PlanBenchConfig
from rslwm.cli.output import console
from rslwm.compute import ComputeConfig


@dataclass
class Plan:
    """Measure planning: candidates that share their context's keys and values, against a batch of full contexts.

    The cross-entropy method with the same random weights and the same draws on both sides. Prints the latency of a
    plan, the ratio with what counting frame passes would allow, the peak memory of both, and how far the plans are
    apart.

    For instance:
      rslwm bench plan
      rslwm bench plan --iterations 5 --dtype both
      rslwm bench plan --size demo --grid 8 --channels 16 --candidates 64 --elites 8 --rounds 5 --out runs/bench
    """

    bench: Annotated[PlanBenchConfig, tyro.conf.arg(name="")] = field(default_factory=PlanBenchConfig)
    device: str = ComputeConfig.device
    """auto, cpu, cuda, cuda:1, mps."""
    threads: int = 0
    """CPU threads; 0 is one a core."""
    out: Path | None = None
    """Folder for the JSON file; without it, there is only the table."""

    def run(self) -> None:
        from rslwm.bench.machine import facts, use_threads
        from rslwm.bench.plan import measure
        from rslwm.bench.result import publish

        use_threads(self.threads)
        machine = facts(ComputeConfig(self.device))
        comparisons = [measure(self.bench, compute) for compute in self.bench.precisions(self.device)]
        publish("plan", comparisons, machine, console(), self.out)
