"""How fast the simulator is on this machine, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

from rslwm.sim.config import SimConfig
from rslwm.sim.experts import expert_action
from rslwm.sim.tabletop import Tabletop


def measure(seconds: float, config: SimConfig) -> dict[str, float]:
    """Control steps a second of this process: ``step`` is expert, inverse kinematics and physics, ``render`` one frame
    of every camera, ``both`` a recorded step. Each is measured for about ``seconds`` of wall-clock time."""
    table = Tabletop(config.image_size, config.shadows, config.dynamics_noise)
    episodes = count()

    def restart() -> None:
        index = next(episodes)
        family = config.families[index % len(config.families)]
        table.reset((config.seed, index), family, config.distractors, config.appearance)

    def step() -> None:
        table.step(expert_action(table.task, table.state()))

    def render() -> None:
        for camera in config.cameras:
            table.render(camera)

    def both() -> None:
        render()
        step()

    render()  # opens the graphics context
    return {work.__name__: _rate(work, restart, config.max_steps, seconds) for work in (step, render, both)}


def _rate(work: Callable[[], None], restart: Callable[[], None], steps: int, seconds: float) -> float:
    """Calls of ``work`` a second, in episodes of ``steps``; resets are not counted."""
    done, busy = 0, 0.0
    while busy < seconds:
        restart()
        start = time.perf_counter()
        for _ in range(steps):
            work()
        done, busy = done + steps, busy + time.perf_counter() - start
    return done / busy
