"""What a study reads: a data set, its decoded frames, and the split by episode; and what a model has seen of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from rslwm.data.clips import Clips, split_episodes
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.fingerprint import episode_key
from rslwm.data.store import Readable, TensorStore
from rslwm.types import ActionSpec, DataError

SEEN_FILE = "episodes.json"  # in the folder of a world model
REMEDY = "Give other data (--data), or ask for what it has seen with --seen"


@dataclass(frozen=True)
class Corpus:
    """Episodes with their frames decoded once; clips are cut with the configured frame skip."""

    dataset: EpisodeDataset
    frames: TensorStore
    config: DataConfig
    target: ActionSpec | None = None  # what actions are to mean, see for_model
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
    def views(self) -> int:
        """V, the cameras side by side in a frame."""
        return self.config.views

    def clips(self, store: Readable, frames: int) -> Clips:
        """Clips of this many frames over ``store``, which holds this corpus' frames or latents."""
        dataset, config = self.dataset, self.config
        return Clips(
            store, dataset.ids, self.actions, dataset.spec, frames, config.frame_skip, config.actions, self.target
        )

    def for_model(self, spec: ActionSpec) -> Corpus:
        """This corpus with actions as a model of this spec takes them. Raises DataError: they mean something else."""
        spec.require(self.action_spec, "the model", str(self.dataset.root))
        return replace(self, target=spec)

    @property
    def action_spec(self) -> ActionSpec:
        """What one action between two frames of a clip means."""
        return self.clips(self.frames, 2).step_spec


@dataclass(frozen=True)
class SeenEpisodes:
    """Which episodes a model was trained on: travels with it, so that none is taken for held out wherever it turns up.

    ``fingerprint`` is of the data set that the ids belong to; ``earlier`` holds the keys of what was seen elsewhere, by
    the model whose weights this one's training began with.
    """

    fingerprint: str
    episodes: Mapping[str, str]
    """Keys of their content by id, see :func:`rslwm.data.fingerprint.episode_key`."""
    earlier: tuple[str, ...] = ()

    @classmethod
    def of(cls, corpus: Corpus, *before: SeenEpisodes | None) -> SeenEpisodes:
        """The training episodes of a corpus, and what its parts had seen ``before``."""
        keys, fingerprint = {corpus.dataset.ids[i]: corpus.keys[i] for i in corpus.train}, corpus.dataset.fingerprint
        earlier = set[str]()
        for seen in filter(None, before):
            same = keys if seen.fingerprint == fingerprint else {}
            earlier |= {*seen.earlier, *(key for name, key in seen.episodes.items() if same.get(name) != key)}
        return cls(fingerprint, keys, tuple(sorted(earlier)))

    def among(self, corpus: Corpus) -> set[int]:
        """Indices of the episodes of a corpus that were seen: in the same data set by id, in any other by content."""
        same = self.fingerprint == corpus.dataset.fingerprint
        seen = {i for i, name in enumerate(corpus.dataset.ids) if same and name in self.episodes}
        keys = {*self.earlier, *(() if same else self.episodes.values())}
        return seen | {i for i, key in enumerate(corpus.keys) if key in keys} if keys else seen

    def write(self, folder: Path) -> None:
        (folder / SEEN_FILE).write_text(json.dumps(asdict(self), indent=0) + "\n")

    @classmethod
    def read(cls, folder: Path) -> SeenEpisodes | None:
        """What a world model's folder says; None if it was written before it did. Raises DataError: the file is
        damaged."""
        path = folder / SEEN_FILE
        try:
            values = json.loads(path.read_text())
            return cls(values["fingerprint"], dict(values["episodes"]), tuple(values["earlier"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error!r}. Copy the checkpoint again.") from None


def unseen(corpus: Corpus, seen: SeenEpisodes | None, fingerprint: str, who: str) -> list[int]:
    """The episodes of a corpus that a model, ``who`` in messages, wasn't trained on: ``seen`` is what it says of that,
    ``fingerprint`` its data's. Raises DataError: there are none, or nobody knows which."""
    if seen is None:
        if fingerprint == corpus.dataset.fingerprint:
            trained = f"{who} was trained on episodes of {corpus.dataset.root}"
            raise DataError(f"{trained}, and doesn't say which (it has no {SEEN_FILE}). {REMEDY}.")
        return [*range(len(corpus.dataset))]
    among = seen.among(corpus)
    if len(among) == len(corpus.dataset):
        raise DataError(f"{who} was trained on all {len(among)} episodes of {corpus.dataset.root}. {REMEDY}.")
    return [i for i in range(len(corpus.dataset)) if i not in among]


def require_held_out(corpus: Corpus, seen: SeenEpisodes, who: str, otherwise: str) -> None:
    """Raise :class:`DataError` if ``who`` was trained on episodes that a corpus holds out; ``otherwise`` is what to do
    beside taking the split that it was trained with."""
    if both := seen.among(corpus) & set(corpus.test):
        raise DataError(
            f"{who} was trained on {len(both)} of the {len(corpus.test)} episodes that are held out here, for instance "
            f"{corpus.dataset.ids[min(both)]!r}. Take its data.split_seed and data.test_fraction, or {otherwise}"
        )
