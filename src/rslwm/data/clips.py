"""Clips: a few frames of an episode, ``skip`` recorded steps apart, with the actions between them."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rslwm.data.actions import compose, first
from rslwm.data.store import Readable
from rslwm.serialisation import ConfigError
from rslwm.types import ActionSpec, DataError


def split_episodes(ids: Sequence[str], test_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Ascending indices of the training and of the test episodes.

    An episode is held out if the hash of its id and the seed, as a share of all hashes, is below ``test_fraction``:
    whatever episodes come or go, none of the others changes sides, and the test side is of ``test_fraction`` on average
    only. Where a side would be empty, the episode of the least (or greatest) hash goes there, so that of two episodes
    each has its side; only that one can change sides when the data grow. Raises ConfigError: the fraction is not inside
    (0, 1). Raises DataError: an id occurs twice, and its copies could fall on both sides.
    """
    if not 0 < test_fraction < 1:
        raise ConfigError(f"test_fraction: {test_fraction} is not between 0 and 1; 0.2 holds out a fifth")
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise DataError(f"episode id {twice!r} occurs twice; a split by episode would leak. Remove the copy.")
    digests = (hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in ids)
    shares = [int.from_bytes(digest[:6], "big") / 2**48 for digest in digests]
    limit = 0.0  # a single episode is trained on
    if len(ids) > 1:
        limit = min(max(test_fraction, math.nextafter(min(shares), 1)), max(shares))
    train = [episode for episode, share in enumerate(shares) if share >= limit]
    return train, [episode for episode, share in enumerate(shares) if share < limit]


def windows(lengths: Sequence[int] | np.ndarray, episodes: Sequence[int], frames: int, skip: int) -> np.ndarray:
    """Every place of a clip in these episodes: (N, 2) int64, rows (episode, start)."""
    places = [np.empty((0, 2), np.int64)]
    for episode in episodes:
        starts = np.arange(int(lengths[episode]) - (frames - 1) * skip)
        places.append(np.column_stack([np.full_like(starts, episode), starts]))
    return np.concatenate(places)


@dataclass(frozen=True)
class ClipBatch:
    """``x`` (B, T, ...) in the store's dtype; ``actions`` (B, T-1, A) float32, normalised; ``windows`` (B, 2)."""

    x: Tensor
    actions: Tensor
    windows: np.ndarray


@dataclass(frozen=True)
class Clips:
    """Clips of ``frames`` frames, cut from a store of frames or latents and the recorded actions.

    ``ids[i]`` is the store's key of episode i, ``actions[i]`` its (T, A) float32 in units of ``spec``, the spec of one
    recorded step. Of an episode that isn't in the store no clip can be read. Raises DataError: one that is differs in
    length from its actions.
    """

    store: Readable
    ids: Sequence[str]
    actions: Sequence[np.ndarray]
    spec: ActionSpec
    frames: int
    skip: int = 1
    composition: Literal["compose", "first"] = "compose"
    target: ActionSpec | None = None
    """What one action of a clip is to mean, where that isn't what the recorded ones do: another spec's bounds."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.skip < 1:
            raise ConfigError(f"clips of {self.frames} frames, {self.skip} steps apart: both must be at least 1")
        held = set(self.store.keys)
        for name, actions in zip(self.ids, self.actions, strict=True):
            frames = self.store.shape(name)[0] if name in held else len(actions)
            if actions.shape != (frames, self.spec.dims):
                raise DataError(
                    f"{self.store}: episode {name!r} has {frames} frames for actions of shape {actions.shape}; "
                    f"expected as many, of {self.spec.dims} dimensions. Write the store again."
                )

    @property
    def step_spec(self) -> ActionSpec:
        """What one action of a clip means; its bounds are the -1 and 1 of :attr:`ClipBatch.actions`."""
        return self.target or self._composed_spec

    @cached_property
    def _composed_spec(self) -> ActionSpec:
        if self.composition == "first":
            return replace(self.spec, hz=self.spec.hz / self.skip)
        return self.spec.composed(self.skip)

    @property
    def lengths(self) -> list[int]:
        return [len(actions) for actions in self.actions]

    def windows(self, episodes: Sequence[int]) -> np.ndarray:
        """Every place of a clip in these episodes, (N, 2), see :func:`windows`."""
        return windows(self.lengths, episodes, self.frames, self.skip)

    def batch(self, windows: np.ndarray) -> ClipBatch:
        """The clips at these places, (B, 2) rows of (episode, start)."""
        steps = (self.frames - 1) * self.skip
        if not len(windows):
            raise DataError("a batch of no clips; the episodes may be shorter than a clip")
        places = []
        recorded = np.empty((len(windows), steps, self.spec.dims), np.float32)
        for b, (episode, start) in enumerate(windows.tolist()):
            name, actions = self.ids[episode], self.actions[episode]
            if start < 0 or start + steps >= len(actions):
                raise DataError(f"episode {name!r} of {len(actions)} frames has no clip {start}..{start + steps}")
            places.append((name, range(start, start + steps + 1, self.skip)))
            recorded[b] = actions[start : start + steps]
        apart = recorded.reshape(len(windows), self.frames - 1, self.skip, self.spec.dims)
        composed = (first if self.composition == "first" else compose)(apart, self.spec)
        actions = self.step_spec.normalise(self.step_spec.convert(composed, self._composed_spec))
        return ClipBatch(self.store.read(places), torch.from_numpy(actions), windows)

    def sample(self, windows: np.ndarray, n: int, generator: torch.Generator) -> ClipBatch:
        """``n`` clips drawn with replacement; the draw depends on nothing but the generator. Raises DataError: there
        are no windows to draw from."""
        if not len(windows):
            needed, longest = (self.frames - 1) * self.skip + 1, max(self.lengths, default=0)
            raise DataError(
                f"no episode holds a clip of {self.frames} frames {self.skip} steps apart: these are {needed} recorded "
                f"steps, and the longest episode has {longest}. Use fewer frames or a smaller frame_skip."
            )
        drawn = torch.randint(len(windows), (n,), generator=generator)
        return self.batch(windows[drawn.numpy()])
