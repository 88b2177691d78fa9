"""Closed loop: do planners reach goals in the true world, looking at it through the latent space?"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Actor
from rslwm.actors.inverse import InverseDynamics
from rslwm.actors.planner import Planner
from rslwm.compute import autocast, device, generator
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.aggregates import MEAN
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, Need, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.goals import BLIND, ORACLE, GoalRecording, Goals, GoalsConfig
from rslwm.evals.planning import untied_distance
from rslwm.evals.probe import Draw, Probe, TrainedProbe
from rslwm.evals.reaching import Reached, reach
from rslwm.evals.rollouts import RolloutsConfig, generating
from rslwm.evals.rows import Rows
from rslwm.plan.base import PLANNERS
from rslwm.registry import code_of
from rslwm.types import Role

log = logging.getLogger(__name__)

SUCCESS = MetricInfo(
    name="goal_success",
    axis="planning",
    higher_is_better=True,
    unit="of attempts",
    aggregate=MEAN,
    floor="the best of doing nothing, acting at random and repeating the last action",
    ceiling="the same search (CEM by default) with the true world as its model",
    description="Share of attempts in which a search over the world model, acting in the true world and shown an image "
    "of the goal, brings the gripper and every object to within 2 cm of where they are in it, in at most twice as many "
    "steps as the goal is away.",
    question="Does planning with it reach goals?",
    rung=6,
)
BY_INVERSE = replace(
    SUCCESS,
    name="goal_success_inverse",
    scored=False,
    description="The same share for a probe that reads the next action from the current frame and the goal. It asks no "
    "world model, so it says what the space shows, not what can be predicted in it.",
)
STEPS = replace(
    SUCCESS,
    name="goal_steps",
    higher_is_better=False,
    unit="steps",
    scored=False,
    description="Steps that the same attempts took; the whole budget where the goal wasn't reached.",
)
LEFT = replace(
    STEPS,
    name="goal_distance",
    unit="cm",
    description="How far the gripper, or the object that is farthest away, was from its place in the goal when the "
    "same attempts ended.",
)
UNSEEING = replace(
    SUCCESS,
    name="goal_success_blind",
    scored=False,
    floor="never",
    ceiling="always",
    description="Success of actors that see nothing, the best of which is the floor of goal_success.",
    floor_value=0.0,
    ceiling_value=1.0,
)
SOLVED = replace(
    UNSEEING,
    name="goal_solved_at_start",
    unit="of starts",
    description="Share of the starts that are within tolerance of their goal already; they are left out.",
)
INVERSE = "inverse"


@dataclass(frozen=True)
class GoalProbe(Probe):
    """Reads a frame and one that is 1 to ``horizon`` steps later, it isn't told how many, and predicts the action that
    was taken first."""

    horizon: int
    reads: ClassVar[int] = 2

    @property
    def name(self) -> str:
        return "goal"

    @property
    def span(self) -> int:
        return self.horizon + 1

    @property
    def about(self) -> int:
        return 7

    def out(self, corpus: Corpus) -> int:
        return corpus.action_spec.dims

    def batches(self, corpus: Corpus, latents: Readable, batch_size: int) -> Draw:
        clips = corpus.clips(latents, self.span)
        places = clips.windows(corpus.train)
        if not len(places):
            raise NotAvailable(f"no training episode holds {self.span} frames")

        def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            batch = clips.sample(places, batch_size, g)
            later = torch.randint(1, self.span, (batch_size,), generator=g)
            pair = torch.stack([batch.x[:, 0], batch.x[torch.arange(batch_size), later]], 1)
            target = batch.actions[:, 0]
            return pair.float(), target, torch.ones_like(target)

        return draw


@dataclass(frozen=True)
class ClosedLoopConfig:
    """Reaching goals in the true world."""

    goals: GoalsConfig = field(default_factory=GoalsConfig)
    planners: tuple[str, ...] = ("cem", INVERSE)
    """Who is to reach them: searches over the world model by name (cem, mppi or one of your own), and inverse, the
    probe that reads the next action from the current frame and the goal."""


@METRICS.register("closed_loop")
class ClosedLoop(Metric):
    infos = (SUCCESS, BY_INVERSE, STEPS, LEFT, UNSEEING, SOLVED)
    core = False
    Config = ClosedLoopConfig
    config: ClosedLoopConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        probe = {"probe": GoalProbe(max(self.config.goals.distances))} if INVERSE in self.config.planners else {}
        return {"goals": GoalRecording(self.config.goals), **probe}

    @property
    def searches(self) -> list[str]:
        return [name for name in self.config.planners if name != INVERSE]

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        goals, plan = self.config.goals, self.config.goals.search.plan
        steps = 2 * goals.windows * goals.budget * sum(goals.distances)
        a_plan = history + plan.candidates * plan.iterations * generating(plan.sampling, 0, plan.horizon)
        passes = len(self.searches) * steps / goals.search.execute * a_plan
        return Load(passes, memory=plan.memory_mb * 2**20 if self.searches else 0.0)

    def code(self) -> str:
        names = sorted({*self.searches, self.config.goals.search.plan.planner})
        return "".join(code_of(PLANNERS.get(name)) for name in names)

    def measure(self, evaluation: Evaluation, goals: Goals, probe: TrainedProbe | None = None) -> Iterator[Rows]:
        if goals.solved.all():
            raise NotAvailable(f"every start is within {self.config.goals.tolerance:g} cm of its goal")
        if probe is not None and probe.absent and not self.searches:
            probe.require()
        yield evaluation.rows(SOLVED, goals.windows, goals.solved, k=goals.distance, dim=goals.names)
        for distance in self.config.goals.distances:
            here = goals.of(distance)
            if len(here.windows):
                for actor in BLIND:
                    success, dims = here.attempts(actor).steps > 0, [f"{actor}, {kind}" for kind in here.names]
                    yield evaluation.rows(UNSEEING, here.windows, success, k=distance, dim=np.array(dims))
                yield from self._reached(evaluation, here, distance, probe)

    def _reached(
        self, evaluation: Evaluation, goals: Goals, distance: int, probe: TrainedProbe | None
    ) -> Iterator[Rows]:
        """Of goals that are equally far."""
        s, truth = self.config.goals, evaluation.truth
        begin = goals.windows + np.array([0, (s.context - 1) * evaluation.corpus.config.frame_skip])
        state, past = truth.state(begin), truth.actions(goals.windows, s.context)
        context = evaluation.pixels(goals.windows, s.context)[:, :-1]
        wanted, budget = evaluation.encode(goals.frames[:, None]).to(device(evaluation.compute)), s.budget * distance
        for name in self.config.planners:
            if name == INVERSE and (probe is None or probe.absent):
                log.warning("closed loop without inverse dynamics: %s", probe and probe.absent)
                continue
            actor = self._actor(name, evaluation, wanted, probe, distance)
            with torch.no_grad(), autocast(evaluation.compute):
                found = reach(actor, truth.environment, state, past, goals.layout, budget, s.tolerance, context)
            evaluation.costs.setdefault(f"{name}_decision_seconds", found.seconds)
            evaluation.costs.setdefault(f"{name}_decision_calls", 1 if name == INVERSE else s.imagined)
            yield from _rows(evaluation, goals, name, distance, budget, found)

    def _actor(
        self, name: str, evaluation: Evaluation, wanted: Tensor, probe: TrainedProbe | None, distance: int
    ) -> Actor:
        if name == INVERSE:
            assert probe is not None
            return InverseDynamics(evaluation.world_model, wanted, lambda pair: probe.apply(pair, evaluation.compute))
        search = self.config.goals.search
        return Planner(
            evaluation.world_model,
            wanted,
            replace(search, plan=replace(search.plan, planner=name)),
            generator(evaluation.seed, f"closed loop {distance}"),
            cost=untied_distance(generator(evaluation.seed, f"closed loop ties {distance}")),
        )


def _rows(
    evaluation: Evaluation, goals: Goals, planner: str, distance: int, budget: int, found: Reached
) -> Iterator[Rows]:
    """Of a planner, beside the best blind actor and the oracle, all in the planner's name: they are averaged over the
    same goals."""
    names: Any = np.array([f"{planner}, {kind}" for kind in goals.names])
    success = BY_INVERSE if planner == INVERSE else SUCCESS
    attempts: list[tuple[Role, Reached]] = [
        ("value", found),
        ("floor", goals.floor()),
        ("ceiling", goals.attempts(ORACLE)),
    ]
    for role, reached in attempts:
        took = torch.where(reached.steps < 0, budget, reached.steps)
        for info, values in ((success, reached.steps > 0), (STEPS, took), (LEFT, reached.left)):
            yield evaluation.rows(info, goals.windows, values.float(), k=distance, dim=names, role=role)
