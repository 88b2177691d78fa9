"""rslwm bench sim"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro
from rich.table import Table

from rslwm.cli.output import console
from rslwm.sim.config import SimConfig


@dataclass
class Sim:
    """Measure the simulator's speed on one core: expert with physics, rendering, and both, as in a recording.

    For instance:
      rslwm bench sim
      rslwm bench sim --shadows --image-size 128 --seconds 5
    """

    seconds: float = 3.0
    """Wall-clock seconds of each measurement."""
    sim: Annotated[SimConfig, tyro.conf.arg(name="")] = field(default_factory=SimConfig)

    def run(self) -> None:
        from rslwm.bench.sim import measure

        rates = measure(self.seconds, replace(self.sim, episodes=1))
        table = Table("one core", "a second", "ms each", box=None, header_style="dim")
        names = {"step": "expert and physics", "render": "rendering", "both": "recorded steps"}
        for key, name in names.items():
            table.add_row(name, f"{rates[key]:.0f}", f"{1000 / rates[key]:.2f}")
        size, load = self.sim.image_size, os.getloadavg()[0]
        shadows = "with shadows" if self.sim.shadows else "without shadows"
        console().print(table, f"\n{size} px, {shadows}, {len(self.sim.cameras)} camera(s); load average {load:.1f}")
