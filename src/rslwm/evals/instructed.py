"""Is done what was asked for? The success probe, conditioned on the instruction and held against others'."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.compute import generator
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.base import METRICS, Metric, Need, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.probe import Draw, TrainedProbe
from rslwm.evals.rows import Rows
from rslwm.evals.success import (
    SLACK,
    SUCCESS_AUC,
    SuccessConfig,
    SuccessProbe,
    at_the_end,
    final_windows,
    labelled_clips,
    labels_of,
    spread,
)
from rslwm.types import Role

INSTRUCTED_AUC = replace(
    SUCCESS_AUC,
    name="success_instructed_auc",
    floor="what the instruction alone tells: the same probe's mean over the last frames of all episodes",
    floor_value=None,
    description="Area under the ROC curve of a success probe that is given an instruction: last frames of successful "
    "episodes with their own one, against the same frames with that of another task and those of failures.",
)
DIMS = 128
"""Numbers of an instruction's embedding."""


def embedding(instruction: str, dims: int = DIMS) -> np.ndarray:
    """(dims,) of unit length, or zeros of nothing: a bag of its words and pairs of words, hashed with a sign.

    It needs no weights. Pairs tell "red cube to the blue square" from its reverse (Weinberger et al. 2009, arXiv
    0902.2206).
    """
    words = re.findall(r"\w+", instruction.lower())
    bag = np.zeros(dims)
    for part in [*words, *map(" ".join, pairwise(words))]:
        number = int.from_bytes(sha256(part.encode()).digest()[:8], "big")
        bag[number // 2 % dims] += 1 - 2 * (number % 2)
    return bag / max(float(np.linalg.norm(bag)), 1e-12)


@dataclass(frozen=True)
class Instructions:
    """Of every episode its instruction's embedding (dims,) and its task; empty where it was told nothing."""

    embeddings: Tensor
    tasks: list[str]

    @classmethod
    def of(cls, corpus: Corpus, dims: int = DIMS) -> Instructions:
        """Episodes have the same task if target and goal are recorded and the same, else if the words are."""
        texts, infos = corpus.dataset.instructions, corpus.dataset.info
        tasks = [
            f"{info['target']} {info['goal']}" if text and {"target", "goal"} <= info.keys() else text.lower().strip()
            for text, info in zip(texts, infos, strict=True)
        ]
        return cls(torch.from_numpy(np.stack([embedding(text, dims) for text in texts])).float(), tasks)

    def told(self, episodes: list[int]) -> list[int]:
        """Those that have an instruction.

        Raises:
            NotAvailable: they have fewer than two tasks.
        """
        told = [e for e in episodes if self.tasks[e]]
        if len({self.tasks[e] for e in told}) < 2:
            raise NotAvailable("the episodes have no instructions, or all the same: there is none to tell theirs from")
        return told

    def another(self, episodes: np.ndarray, told: list[int], g: torch.Generator) -> np.ndarray:
        """For each of the episodes (N,) one of another task (N,), drawn from those that were told something."""
        pool, tasks = np.array(told), np.array(self.tasks)
        unlike = (pool[tasks[pool] != tasks[episode]] for episode in episodes)
        drawn = torch.rand(len(episodes), generator=g).tolist()
        return np.array([candidates[int(u * len(candidates))] for candidates, u in zip(unlike, drawn, strict=True)])


@dataclass(frozen=True)
class InstructedProbe(SuccessProbe):
    """Reads the frames of :class:`SuccessProbe` and predicts what an instruction would have to be for it to be done: a
    vector whose product with the instruction's embedding is the log odds."""

    dims: int = DIMS
    name = "success-instructed"

    @property
    def about(self) -> int:
        return self.dims

    def out(self, corpus: Corpus) -> int:
        return self.dims

    def batches(self, corpus: Corpus, latents: Readable, batch_size: int) -> Draw:
        """Half of the clips come with the instruction of another task. Both labels weigh the same."""
        instructions, clips = Instructions.of(corpus, self.dims), corpus.clips(latents, self.frames)
        told = instructions.told(labelled_clips(corpus, self.frames, corpus.train, "training"))
        places = final_windows(clips, told, SLACK)
        share = labels_of(corpus, places).mean() / 2
        if not share:
            raise NotAvailable("no training episode with an instruction succeeds")

        def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            batch = clips.sample(places, batch_size, g)
            own = batch.windows[:, 0]
            swapped = torch.rand(batch_size, generator=g) < 0.5
            given = np.where(swapped, instructions.another(own, told, g), own)
            done = torch.from_numpy(labels_of(corpus, batch.windows) > 0) & ~swapped
            weight = torch.where(done, 0.5 / share, 0.5 / (1 - share))
            target = instructions.embeddings[given] * (2.0 * done - 1)[:, None]
            return spread(batch.x).float(), target, weight[:, None].expand_as(target)

        return draw

    def loss(self, guess: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Logistic loss; the sign of a target, an instruction's embedding, says whether that is done."""
        return (weight[:, 0] * F.softplus(-(guess * target).sum(1))).mean()


@METRICS.register("success_instructed")
class InstructedSuccess(Metric):
    infos = (INSTRUCTED_AUC,)
    core = False
    Config = SuccessConfig
    config: SuccessConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"probe": InstructedProbe(self.config.frames, noise=self.config.noise)}

    def measure(self, evaluation: Evaluation, probe: TrainedProbe) -> Iterator[Rows]:
        probe.require()
        corpus = evaluation.corpus
        clips, windows = at_the_end(evaluation, self.config.frames, corpus.test, "held-out")
        instructions = Instructions.of(corpus)
        told = instructions.told(windows[:, 0].tolist())
        windows = windows[np.isin(windows[:, 0], told)]
        done, own = labels_of(corpus, windows) > 0, windows[:, 0]
        asked = probe.apply(spread(clips.batch(windows).x), evaluation.compute)
        swapped = instructions.another(own, told, generator(evaluation.seed, "other instructions"))
        pairs: list[tuple[Any, np.ndarray, Any]] = [(slice(None), own, done), (done, swapped[done], 0.0)]
        roles: tuple[tuple[Role, Tensor], ...] = ("value", asked), ("floor", asked.mean(0).expand_as(asked))
        for which, given, target in pairs:
            for role, vectors in roles:
                scores = (vectors[which] * instructions.embeddings[given]).sum(1)
                yield evaluation.rows(INSTRUCTED_AUC, windows[which], scores, role=role, target=target)
