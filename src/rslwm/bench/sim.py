"""How fast the simulator is on one core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated

import tyro

from rslwm.bench.benchmark import Benchmark
from rslwm.bench.measure import Case
from rslwm.sim.config import SimConfig


@dataclass
class Sim(Benchmark):
    """Measure the simulator on one core: expert with physics, rendering, and both, as in a recording.

    For instance:
      rslwm bench sim --shadows --image-size 128 --rounds 20
    """

    rounds: int = 8
    """How many episodes of max_steps control steps are timed, after one that doesn't count. Resets aren't timed."""
    sim: Annotated[SimConfig, tyro.conf.arg(name="")] = field(default_factory=SimConfig)

    def cases(self, folder: Path) -> list[Case]:
        from rslwm.sim.experts import expert_action
        from rslwm.sim.tabletop import Tabletop

        sim, numbers = self.sim, count()
        table = Tabletop(sim.image_size, sim.shadows, sim.dynamics_noise)

        def restart() -> None:
            number = next(numbers)
            family = sim.families[number % len(sim.families)]
            table.reset((sim.seed, number), family, sim.distractors, sim.appearance)

        def step() -> None:
            table.step(expert_action(table.task, table.state()))

        def render() -> None:
            for camera in sim.cameras:
                table.render(camera)

        def episode(name: str, *works: Callable[[], None]) -> Case:
            def run() -> None:
                for _ in range(sim.max_steps):
                    for work in works:
                        work()

            return Case(name, run, sim.max_steps, "steps", before=restart)

        every = {"expert and physics": [step], "rendering": [render], "recorded steps": [render, step]}
        return [episode(name, *works) for name, works in every.items()]
