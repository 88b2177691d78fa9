"""The rollouts that several metrics are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rslwm.evals.rollouts import Rollouts, RolloutsConfig, generating, keep_clips, make_rollouts
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import Sizes, reading
from rslwm.study.stages.held_out import HeldOut, held_out

if TYPE_CHECKING:
    from rslwm.study.graph import Subject

CLIPS = "clips.safetensors"
KEPT = 8
"""Decoded rollouts for the report."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RolloutsStage(HeldOut[Rollouts]):
    """Let the world model continue held-out clips with their actions; a few are decoded for the report, too."""

    kind = "rollouts"
    seconds = 5.0

    settings: RolloutsConfig

    @classmethod
    def of(cls, subject: Subject) -> RolloutsStage:
        return cls(**held_out(subject), label=subject.sized, settings=subject.study.config.evaluation.rollouts)

    def demand(self, sizes: Sizes) -> Demand:
        config = self.settings
        passes = config.clips * generating(config.sampling, config.context, config.future)
        return reading(self, config.clips * (config.context + config.future), self.predicting(passes))

    def run(self, work: Workspace) -> None:
        evaluation = self.evaluation(work)
        rollouts = make_rollouts(evaluation, self.settings)
        rollouts.save(work.out)
        keep_clips(work.out / CLIPS, evaluation, rollouts, KEPT)
        work.write_facts(future=rollouts.future, costs={"rollout_seconds": rollouts.seconds})

    def open(self, work: Workspace) -> Rollouts:
        return Rollouts.load(work.out)
