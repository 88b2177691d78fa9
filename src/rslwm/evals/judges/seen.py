"""The simulator's own rule as a judge of frames: what they show is read by a network that has seen many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rslwm.evals.judges.base import JUDGES, Footage
from rslwm.evals.judges.rule import RuleJudge
from rslwm.sim.sight import as_seen, where
from rslwm.sim.tasks import FAMILIES, TableState, Task
from rslwm.types import DataError

Look: TypeAlias = Callable[[np.ndarray, tuple[str, ...]], np.ndarray]
"""Facts (B, T, WIDTH), see :data:`rslwm.sim.sight.FACTS`, of frames (B, T, H, W, 3) uint8 and instructions, B strings.
"""


@JUDGES.register("seen")
@dataclass(frozen=True)
class SeenJudge(RuleJudge):
    """As :class:`RuleJudge`, of frames instead of latents: the same instrument for every latent space, which is blind
    to none. What kind of task it is, it is told."""

    read: Look  # type: ignore[assignment]

    @property
    def name(self) -> str:
        return "seen"

    def _trials(self, footage: Footage) -> Iterator[tuple[Task, list[TableState]]]:
        if footage.frames is None or not footage.tasks:
            raise DataError("seen judge: the footage lacks frames or tasks; it reads the one by the rule of the other")
        facts = np.array(self.read(footage.frames, footage.instructions), float)
        facts[..., where("family")] = [[[task.family == name for name in FAMILIES]] for task in footage.tasks]
        facts[..., where("open")] = [[[task.goal == "open"]] for task in footage.tasks]
        for numbers in facts:
            seen = [as_seen(moment) for moment in numbers]
            yield seen[0][0], [state for _, state in seen]
