"""A data set in which some episodes went otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from rslwm.data.dataset import EpisodeDataset
from rslwm.types import DataError


class Overlaid(EpisodeDataset):
    """The episodes of ``base``, those of ``anew`` in place of the ones of the same ids. Raises DataError: an episode of
    ``anew`` isn't there, or has another length."""

    def __init__(self, base: EpisodeDataset, anew: EpisodeDataset) -> None:
        vars(self).update(vars(base))  # nothing is read twice
        self.base, self.anew = base, anew
        numbers = {name: i for i, name in enumerate(base.ids)}
        self._anew = {numbers.get(name, -1): i for i, name in enumerate(anew.ids)}
        if any(i < 0 or base.lengths[i] != anew.lengths[k] for i, k in self._anew.items()):
            raise DataError(f"{anew.root} holds other episodes than {base.root}. Delete it and run again.")
        for name in ("info", "success", "instructions"):
            setattr(self, name, [self._whose(i, lambda held, k, n=name: getattr(held, n)[k]) for i in range(len(base))])

    def actions(self, i: int) -> np.ndarray:
        return self._whose(i, EpisodeDataset.actions)

    def states(self, i: int) -> dict[str, np.ndarray]:
        return self._whose(i, EpisodeDataset.states)

    def frames(self, i: int, camera: str) -> np.ndarray:
        return self._whose(i, lambda held, k: held.frames(k, camera))

    def _whose(self, i: int, read: Any) -> Any:
        """What ``read`` finds in the data set that episode i is of, under its number there."""
        return read(self.anew, self._anew[i]) if i in self._anew else read(self.base, i)
