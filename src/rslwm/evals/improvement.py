"""Does thinking ahead with the world model help a policy in the true world?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.actors.best_of import BestOf, BestOfConfig, Score
from rslwm.compute import autocast, generator
from rslwm.envs.base import play
from rslwm.envs.imagined import Imagined
from rslwm.evals.aggregates import MEAN
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, Need
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.judges.base import Footage
from rslwm.evals.judges.seen import SeenJudge
from rslwm.evals.policies import look
from rslwm.evals.rollouts import RolloutsConfig, generating
from rslwm.evals.rows import Rows
from rslwm.evals.trials import Trials, TrialsConfig, TrialsRecording, begin, digest, named, seen_before, world_of
from rslwm.latents.views import to_bytes
from rslwm.model.sampler import SamplingConfig
from rslwm.sim.tasks import Task

GAIN = MetricInfo(
    name="improvement",
    axis="planning",
    question="Does thinking ahead help a policy?",
    rung=6,
    higher_is_better=True,
    unit="of trials",
    aggregate=MEAN,
    floor="the policy as it is",
    floor_value=0.0,
    ceiling="",
    scored=False,
    description="True success of a policy that imagines several continuations of what it does and begins the best one, "
    "minus that of the policy as it is from the same beginnings.",
    counts="trials",
)
SUCCESS = replace(
    GAIN,
    name="improved_success",
    floor="never",
    ceiling="always",
    ceiling_value=1.0,
    description="True success of the policy that thinks ahead.",
)


def _thinking() -> BestOfConfig:
    return BestOfConfig(candidates=4, horizon=10, execute=5, history=2)


@dataclass(frozen=True)
class ImprovementConfig:
    """A policy that thinks ahead."""

    policy: str = "sees-points-300"
    """One of the ladder that leaves room for more."""
    trials: TrialsConfig = field(default_factory=lambda: TrialsConfig(trials=6, filmed=0))
    """What it is tried in."""
    thinking: BestOfConfig = field(default_factory=_thinking)
    """How many continuations it imagines, how far, and how often."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=4))
    """How futures are sampled."""


@METRICS.register("improvement")
class Improvement(Metric):
    infos = (GAIN, SUCCESS)
    core = False
    Config = ImprovementConfig
    config: ImprovementConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        c = self.config
        return {"plain": TrialsRecording(c.trials, c.policy, digest(c.policy))}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        c, t = self.config, self.config.thinking
        decisions = len(c.trials.families) * c.trials.trials * -(-c.trials.actions // t.execute)
        frames = generating(c.sampling, t.history, t.horizon)
        return Load(decisions * t.candidates * frames, decoded=decisions * t.candidates * (t.horizon + t.history))

    def measure(self, evaluation: Evaluation, plain: Trials) -> Iterator[Rows]:
        c, taken = self.config, 0.0
        for kind, family in enumerate(c.trials.families):
            began = time.perf_counter()
            success = self._tried(evaluation, kind).float().numpy()
            taken += time.perf_counter() - began
            before = plain.outcomes()[kind].numpy()
            for info, value in ((GAIN, success - before), (SUCCESS, success)):
                yield self._rows(evaluation, info, family, value)
        decisions = len(c.trials.families) * c.trials.trials * -(-c.trials.actions // c.thinking.execute)
        evaluation.costs["thinking_seconds"] = taken / decisions

    def _tried(self, evaluation: Evaluation, kind: int) -> Tensor:
        """Whether each trial of a kind of task succeeds, (B,) bool."""
        c, family = self.config, self.config.trials.families[kind]
        world = world_of(evaluation.truth, c.trials)
        seen = seen_before(begin(world, c.trials, family, c.trials.trials))
        model = evaluation.world_model.for_inference(evaluation.compute)
        noise = generator(evaluation.seed, f"improvement {family}")
        ahead = Imagined(model, c.sampling, noise, ahead=c.thinking.horizon, decode=True)
        tasks = [place.task for place in seen.state for _ in range(c.thinking.candidates)]
        policy = named(c.policy, world.spec)
        thinker = BestOf(policy, ahead, nearest(tasks), c.thinking, begin=ahead.after)
        with torch.no_grad(), autocast(evaluation.compute):
            played = play(thinker, world, seen.state, c.trials.actions)
        assert seen.success is not None
        assert played.seen.success is not None
        return seen.success[:, -1] | played.seen.success.any(1)

    @staticmethod
    def _rows(evaluation: Evaluation, info: MetricInfo, family: str, value: np.ndarray) -> Rows:
        return Rows.broadcast(
            **vars(evaluation.label),
            metric=info.name,
            axis=info.axis,
            split=evaluation.split,
            unit=np.array([f"{family} {number}" for number in range(len(value))]),
            value=value,
            higher_is_better=info.higher_is_better,
            dim=family,
        )


def nearest(tasks: Sequence[Task]) -> Score:
    """The score of continuations: how much of the way to the goal their frames show to be gone at best, and whether
    the task looks done."""
    judge = SeenJudge(look, hold=2, ever=True)

    def score(seen: Sequence[Observation]) -> Tensor:
        frames = to_bytes(torch.cat([one.frames for one in seen if one.frames is not None], 1)).numpy()
        verdicts = judge.judge(Footage(seen[-1].instructions, frames, tasks=tuple(tasks)))
        return torch.from_numpy(verdicts.progress + verdicts.score)

    return score
