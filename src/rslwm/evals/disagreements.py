"""Trials that end otherwise in imagination than in truth, to be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rslwm.evals.films import Film, side_by_side
from rslwm.evals.imagined_trials import Imaginations, Stage
from rslwm.evals.trials import Trials

SHOWN = 4
"""Of a space's, how many are filmed."""


@dataclass(frozen=True)
class _Trial:
    """One whose outcome is another in imagination than in truth."""

    gap: float
    what: str
    kind: int
    number: int
    done: bool
    actions: Tensor
    """Those done in truth, (F, A)"""
    imagined: Tensor
    """(T0 + F, H, W, 3) uint8"""


@dataclass
class Disagreements:
    """Of the policies and tasks whose rates differ most a trial each."""

    worst: list[_Trial] = field(default_factory=list)

    def consider(self, what: str, kind: int, success: np.ndarray, true: Trials, imagined: Imaginations) -> None:
        """A policy's trials of one kind of task."""
        truth = true.outcomes()[kind].numpy()
        unlike = np.flatnonzero(np.abs(success - truth) == 1)
        both = np.isfinite(success + truth)
        if not len(unlike):
            return
        gap, i = abs(success[both].mean() - truth[both].mean()), int(unlike[0])
        assert imagined.footage.frames is not None
        frames = torch.from_numpy(imagined.footage.frames[i])
        self.worst.append(_Trial(float(gap), what, kind, i, bool(truth[i]), true.actions[kind, i], frames))
        self.worst = sorted(self.worst, key=lambda trial: -trial.gap)[:SHOWN]

    def films(self, stage: Stage) -> list[Film]:
        """What truly happened beside what was imagined."""
        found = []
        for t in self.worst:
            truth = torch.from_numpy(stage.watched(t.actions, t.kind, t.number))
            happened = "done in truth, not in the model" if t.done else "done in the model, not in truth"
            words = stage.beginnings.instructions[t.kind][t.number]
            caption = f"{t.what}: {happened} (left truth, right the model): {words}"
            found.append(Film(caption, side_by_side(truth, t.imagined)))
        return found
