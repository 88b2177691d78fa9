"""Which held-out windows are measured on: they depend on the evaluation's seed only, so all spaces have the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import generator
from rslwm.data.corpus import Corpus
from rslwm.evals.base import NotAvailable


def held_out(corpus: Corpus, frames: int, count: int, seed: int, concern: str) -> np.ndarray:
    """At most ``count`` held-out windows of so many frames, (N, 2) of (episode, start), drawn without replacement and
    sorted.

    Raises:
        NotAvailable: no held-out episode is long enough.
    """
    places = corpus.clips(corpus.frames, frames).windows(corpus.test)
    if not len(places):
        raise NotAvailable(f"no held-out episode holds {frames} frames {corpus.config.frame_skip} steps apart")
    return choose(places, count, seed, concern)


def choose(windows: np.ndarray, count: int, seed: int, concern: str) -> np.ndarray:
    """At most ``count`` of these windows (N, 2), without replacement, in their order."""
    drawn = torch.randperm(len(windows), generator=generator(seed, concern))[:count]
    return windows[np.sort(drawn.numpy())]


def strangers(windows: np.ndarray, count: int, seed: int) -> Tensor:
    """For each of the sorted windows (N, 2) the places (N, K) of ``count`` others, or of as many as there are.

    They are of other episodes unless one episode has half of the windows: neighbours' actions are much alike. Each is a
    rotation of all windows, so that every window serves as often as any other.
    """
    total = len(windows)
    most = int(np.unique(windows[:, 0], return_counts=True)[1].max())
    shifts = np.arange(most, total - most + 1) if 2 * most <= total else np.arange(1, total)
    drawn = torch.randperm(len(shifts), generator=generator(seed, "shuffle"))[:count]
    return (torch.arange(total)[:, None] - torch.from_numpy(shifts)[drawn]) % total
