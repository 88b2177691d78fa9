"""Held-out episodes as training never showed them, and their frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rslwm.data.clips import split_episodes
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.frames import build_frame_store
from rslwm.data.lerobot import resume_lerobot
from rslwm.data.overlay import Overlaid
from rslwm.data.store import Item, TensorStore
from rslwm.evals.perturbations import Perturbation
from rslwm.processes import cores, spread
from rslwm.registry import code_of
from rslwm.run.stage import Workspace
from rslwm.serialisation import known_by
from rslwm.sim.tasks import STATE_NAMES
from rslwm.study.stages.base import DataStage, FramesStage
from rslwm.types import Episode

if TYPE_CHECKING:
    from rslwm.study.subjects import Subject


@dataclass(frozen=True, eq=False, kw_only=True)
class PerturbedData(DataStage):
    """Record the held-out episodes anew, where a simulator can; it opens as the data set with these in their places."""

    kind = "perturbed"

    base: DataStage
    reference: str = field(metadata=known_by(lambda name: name.rpartition("/")[2]))
    """What the perturbation is called, with its settings."""
    perturbation: Perturbation
    source_code: str
    """Of the perturbation."""

    @classmethod
    def of_perturbation(cls, reference: str, perturbation: Perturbation, subject: Subject) -> PerturbedData:
        """The stage of this perturbation of what a subject is measured on."""
        base, cut = subject.pull(DataStage), subject.study.config.data
        return cls(
            label=f"{base.label} {reference}",
            settings=replace(base.settings, test_fraction=cut.test_fraction, split_seed=cut.split_seed),
            content=base.content,
            base=base,
            reference=reference,
            perturbation=perturbation,
            source_code=f"{perturbation.version}{code_of(type(perturbation))}",
        )

    @property
    def split(self) -> str:
        return self.reference.rpartition("/")[2]

    @property
    def world(self) -> None:
        """The true world is another one by now."""

    @property
    def anew(self) -> bool:
        """Whether the episodes are recorded, or only their pictures changed."""
        return self.perturbation.of_scene(self.settings)

    @property
    def exclusive(self) -> bool:
        return self.anew and super().exclusive

    @property
    def seconds(self) -> float:
        return self.settings.test_fraction * super().seconds if self.anew else 1.0

    def held_out(self, dataset: EpisodeDataset) -> list[int]:
        """The episodes that are perturbed."""
        return split_episodes(dataset.ids, self.settings.test_fraction, self.settings.split_seed)[1]

    def run(self, work: Workspace) -> None:
        folder = work.out / "episodes"
        if not self.anew or folder.exists():
            return
        dataset = work.open(self.base)
        held_out = self.held_out(dataset)
        record = partial(self.perturbation.episode, self.settings.sim)

        def episodes(first: int) -> Iterator[Episode]:
            left = held_out[first:]
            recorded = spread(record, [dataset.info[e]["seed"][-1] for e in left], cores())
            for e, episode in zip(left, recorded, strict=True):
                yield replace(episode, id=dataset.ids[e])

        resume_lerobot(episodes, self.key, folder, dataset.spec, len(held_out), work.progress, STATE_NAMES)

    def open(self, work: Workspace) -> EpisodeDataset:
        base, folder = work.open(self.base), work.out / "episodes"
        return Overlaid(base, EpisodeDataset(folder)) if folder.exists() else base


@dataclass(frozen=True, eq=False, kw_only=True)
class PerturbedFrames(FramesStage):
    """The frames of perturbed episodes: decoded, or changed from those that were decoded before."""

    data: PerturbedData
    base: FramesStage

    @classmethod
    def of_data(cls, data: PerturbedData, subject: Subject) -> PerturbedFrames:
        """The stage of this data for a subject."""
        base = subject.pull(FramesStage)
        return cls(label=data.label, data=data, base=base, settings=base.settings, stored=True)

    @property
    def share(self) -> float:
        return self.data.settings.test_fraction

    def run(self, work: Workspace) -> None:
        dataset, frames = work.open(self.data), work.open(self.base)
        if isinstance(dataset, Overlaid):
            build_frame_store(dataset.anew, self.settings.camera, self.settings.image_size, work.out, work.progress)
            return

        def changed(key: str) -> np.ndarray:
            draw = np.random.default_rng([*key.encode()])  # an episode's own, whatever the others are
            views = np.split(frames[key].numpy(), self.settings.views, axis=2)
            return np.concatenate([self.data.perturbation.picture(view, draw) for view in views], axis=2)

        def items() -> Iterator[Item]:
            held_out = self.data.held_out(dataset)
            for done, e in enumerate(held_out, 1):
                yield dataset.ids[e], partial(changed, dataset.ids[e])
                work.progress(done, len(held_out), "episodes")

        TensorStore.write(work.out, items(), {**frames.meta, "perturbation": self.data.split})

    def open(self, work: Workspace) -> Any:
        return TensorStore(work.out)
