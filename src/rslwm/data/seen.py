"""Which episodes a model was trained on: travels with it, so that none is taken for held out wherever it turns up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rslwm.data.corpus import Corpus
from rslwm.types import DataError

FILE = "episodes.json"
"""In the folder of a world model."""
REMEDY = "Give other data (--data), or ask for what it has seen with --seen"


@dataclass(frozen=True)
class SeenEpisodes:
    """Episodes by id, and by their content, which other data sets may hold under other ids.

    ``fingerprint`` is of the data set that the ids belong to; ``earlier`` holds the keys of what was seen elsewhere, by
    the model whose weights this one's training began with.
    """

    fingerprint: str
    episodes: Mapping[str, str]
    """Keys of their content by id, see :func:`rslwm.data.fingerprint.episode_key`."""
    earlier: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, corpus: Corpus, before: SeenEpisodes | None = None) -> SeenEpisodes:
        """The training episodes of a corpus, and what a model had seen ``before``."""
        earlier = (*before.episodes.values(), *before.earlier) if before else ()
        keys = {corpus.dataset.ids[i]: corpus.keys[i] for i in corpus.train}
        return cls(corpus.dataset.fingerprint, keys, tuple(sorted(set(earlier))))

    def among(self, corpus: Corpus) -> set[int]:
        """Indices of the episodes of a corpus that were seen: in the same data set by id, in any other by content."""
        if self.fingerprint == corpus.dataset.fingerprint:
            seen = {i for i, name in enumerate(corpus.dataset.ids) if name in self.episodes}
            keys = set(self.earlier)
        else:
            seen, keys = set(), {*self.episodes.values(), *self.earlier}
        return seen | {i for i, key in enumerate(corpus.keys) if key in keys} if keys else seen

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=0) + "\n")

    @classmethod
    def read(cls, folder: Path) -> SeenEpisodes | None:
        """What a world model's folder says; None if it was written before it did.

        Raises:
            DataError: the file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text())
            return cls(values["fingerprint"], dict(values["episodes"]), tuple(values["earlier"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error!r}. Copy the checkpoint again.") from None


def unseen(corpus: Corpus, seen: SeenEpisodes | None, fingerprint: str, who: str) -> list[int]:
    """The episodes of a corpus that a model wasn't trained on.

    Args:
        seen: what the model says of its training; None if it says nothing.
        fingerprint: of the model's training data.
        who: the model, for the message.

    Raises:
        DataError: there are none, or nobody knows which.
    """
    if seen is None:
        if fingerprint == corpus.dataset.fingerprint:
            raise DataError(
                f"{who} was trained on episodes of {corpus.dataset.root}, and doesn't say which (it has no {FILE}). "
                f"{REMEDY}."
            )
        return [*range(len(corpus.dataset))]
    among = seen.among(corpus)
    if len(among) == len(corpus.dataset):
        raise DataError(f"{who} was trained on all {len(among)} episodes of {corpus.dataset.root}. {REMEDY}.")
    return [i for i in range(len(corpus.dataset)) if i not in among]
