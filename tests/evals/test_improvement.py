"""A policy that thinks ahead, where what it imagines is known."""

from dataclasses import replace

import numpy as np
import torch

from rslwm.actors.base import Observation
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.evals import improvement
from rslwm.evals.base import METRICS
from rslwm.sim.config import SimConfig
from rslwm.sim.sight import facts
from rslwm.sim.tasks import Task


def test_continuations_are_scored_by_how_near_they_come(monkeypatch):
    """Of two continuations of one place the one that opens the drawer further is the better one."""
    table = SimulatedTabletop(SimConfig(), frame_skip=2)
    (start,) = table.starts("drawer", 1)
    task: Task = start.task

    def opened(metres: float) -> np.ndarray:
        state = replace(
            start.state, drawer_opening=metres, handle_position=start.state.handle_position + np.array([metres, 0, 0])
        )
        return facts(task, state)

    ways = (0.0, 0.03) if task.goal == "open" else (0.08, 0.02)
    read = np.stack([[opened(ways[0])] * 3, [opened(ways[0])] * 2 + [opened(ways[1])]])
    monkeypatch.setattr(improvement, "look", lambda frames, instructions: read)
    shown = Observation(torch.zeros(2, 0, 7), frames=torch.zeros(2, 3, 4, 4, 3), instructions=(task.instruction,) * 2)
    still, moved = improvement.nearest([task, task])([shown]).tolist()
    assert moved > still


def test_it_needs_the_plain_policy_s_trials():
    metric = METRICS.get("improvement")(improvement.ImprovementConfig(policy="still"))
    assert metric.needs["plain"].policy == "still"
