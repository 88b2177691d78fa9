"""A probe of a space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from rslwm.evals.probe import GridProbe, Probe, ProbeConfig, TrainedProbe, train_probe
from rslwm.flops import Pass, blank, count
from rslwm.registry import code_of
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import OnEpisodes, Sizes, on_episodes, reading, training
from rslwm.study.stages.latents import LatentsStage
from rslwm.types import ActionSpec

if TYPE_CHECKING:
    from rslwm.study.graph import Subject


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbeStage(OnEpisodes[TrainedProbe]):
    """Train a probe on encoder latents of the training episodes. One that the data can't train says why."""

    kind = "probe"
    spared = True

    latents: LatentsStage
    probe: Probe
    settings: ProbeConfig
    seed: int
    actions: ActionSpec | None
    """As a model takes them that was trained elsewhere; None as recorded."""
    source: str
    """Of the probe's code."""

    @classmethod
    def of_probe(cls, probe: Probe, subject: Subject) -> ProbeStage:
        """The stage of this probe for a subject."""
        return cls(
            **on_episodes(subject),
            label=f"{subject.label} {probe.name}",
            latents=subject.pull(LatentsStage),
            probe=probe,
            settings=subject.study.config.evaluation.probe,
            seed=subject.seed,
            actions=subject.actions,
            source=f"{probe.version}{code_of(type(probe))}",
        )

    @property
    def seconds(self) -> float:
        return self.settings.optim.steps * 0.02

    def demand(self, sizes: Sizes) -> Demand:
        """As if the data had what it predicts."""
        spec, optim = self.latents.spec, self.settings.optim
        one = probing(spec.grid, spec.channels, self.probe.reads, self.probe.about, self.settings)
        return reading(self, optim.samples * self.probe.span, training(optim, one))

    def run(self, work: Workspace) -> None:
        corpus, latents = self.corpus(work), work.open(self.latents)
        if self.actions:
            corpus = corpus.for_model(self.actions)
        probe = train_probe(
            self.probe, corpus, latents, self.settings, self.seed, work.out, self.compute, work.progress
        )
        probe.save(work.out)

    def open(self, work: Workspace) -> TrainedProbe:
        return TrainedProbe.load(work.out)


@cache
def probing(grid: tuple[int, int], channels: int, frames: int, out: int, config: ProbeConfig) -> Pass:
    """One sample through a probe."""
    return count(
        lambda: GridProbe(frames, channels, grid, out, config), lambda probe: probe(blank(1, frames, *grid, channels))
    )
