"""The truth behind a recorded episode: the simulator's state at any of its steps."""

from __future__ import annotations

from rslwm.sim.config import SimConfig
from rslwm.sim.record import demonstration
from rslwm.sim.tabletop import Snapshot


def restore(config: SimConfig, episode: int, step: int = 0) -> Snapshot:
    """The moment of frame ``step`` of episode ``episode`` of the recording that ``config`` describes, simulated again.

    It is exact. Recorded actions are not quite those that were executed, which weren't rounded to float32: played from
    here they drift from the recorded states by 1e-5 as a rule, and more where a contact is made or missed by it.

    Raises:
        ConfigError: ``config`` describes no recording.
        IndexError: the episode is over by then.
    """
    for table, *_ in demonstration(config, episode):
        if table.steps == step:
            return table.save()
    raise IndexError(f"episode {episode} has {table.steps + 1} steps and no step {step}")
