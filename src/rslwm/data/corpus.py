"""What a study reads: a data set, its decoded frames, and the split by episode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rslwm.data.clips import Clips, split_episodes
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.fingerprint import episode_key
from rslwm.data.store import Readable, TensorStore
from rslwm.types import ActionSpec


@dataclass(frozen=True)
class Corpus:
    """Episodes with their frames decoded once; clips are cut with the configured frame skip."""

    dataset: EpisodeDataset
    frames: TensorStore
    config: DataConfig
    target: ActionSpec | None = None
    """What actions are to mean, see :meth:`for_model`."""
    left_out: frozenset[int] = frozenset()
    """Episodes that aren't held out whatever side they are on: a model from elsewhere was trained on them."""

    @cached_property
    def _split(self) -> tuple[list[int], list[int]]:
        return split_episodes(self.dataset.ids, self.config.test_fraction, self.config.split_seed)

    @property
    def train(self) -> list[int]:
        return self._split[0]

    @property
    def test(self) -> list[int]:
        """Held-out episodes: no encoder, decoder, probe or world model has seen them."""
        return [i for i in self._split[1] if i not in self.left_out]

    @cached_property
    def actions(self) -> list[np.ndarray]:
        return [self.dataset.actions(i) for i in range(len(self.dataset))]

    @cached_property
    def keys(self) -> list[str]:
        """What tells an episode's content from another's, see :func:`rslwm.data.fingerprint.episode_key`."""
        return [episode_key(actions) for actions in self.actions]

    @cached_property
    def states(self) -> list[dict[str, np.ndarray]]:
        return [self.dataset.states(i) for i in range(len(self.dataset))]

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def views(self) -> int:
        """V, the cameras side by side in a frame."""
        return self.config.views

    def clips(self, store: Readable, frames: int) -> Clips:
        """Clips of this many frames over ``store``, which holds this corpus' frames or latents."""
        return Clips(
            store,
            self.dataset.ids,
            self.actions,
            self.dataset.spec,
            frames,
            self.config.frame_skip,
            self.config.actions,
            self.target,
        )

    def for_model(self, spec: ActionSpec) -> Corpus:
        """This corpus with actions as a model of this spec takes them.

        Raises:
            DataError: they mean something else.
        """
        spec.require(self.action_spec, "the model", str(self.dataset.root))
        return replace(self, target=spec)

    @property
    def action_spec(self) -> ActionSpec:
        """What one action between two frames of a clip means."""
        return self.clips(self.frames, 2).step_spec
