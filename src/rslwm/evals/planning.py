"""Planning: a search recovers the action between two real frames, started from standing still (paper section 6.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.actors.planner import Planner, PlannerConfig
from rslwm.compute import autocast, device, generator
from rslwm.evals.aggregates import MEAN, PEARSON
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.rollouts import RolloutsConfig, generating
from rslwm.evals.rows import Rows
from rslwm.plan.base import PLANNERS, Cost, Evaluate, PlanConfig, latent_distance, no_signal, stand_still
from rslwm.registry import code_of
from rslwm.types import ActionSpec, Role

CEM_ERROR = MetricInfo(
    name="cem_error",
    axis="planning",
    question="Can actions be found by planning?",
    rung=4,
    higher_is_better=False,
    unit="of the bounds",
    aggregate=MEAN,
    floor="the same search with random costs",
    ceiling="the same search with the distance to the true action as costs",
    description="Distance of the translation that the planner (CEM by default) finds from the true one, in "
    "normalised action units (bounds at ±1); of all that moves where the action has no translations, as with joints. "
    "Translations and rotations are searched, starting from standing still; the gripper's action is given.",
)
CEM_ROTATION = replace(
    CEM_ERROR,
    name="cem_rotation_error",
    scored=False,
    description="The same distance for the rotation, searched in the same plan.",
)
CEM_STILL = replace(
    CEM_ERROR,
    name="cem_error_still",
    scored=False,
    description="The same distance of the action that keeps the robot where it is. Not the floor: a search that is "
    "told nothing wanders off and ends farther away.",
)
CEM_R = replace(
    CEM_ERROR,
    name="cem_r",
    higher_is_better=True,
    unit="Pearson r",
    aggregate=PEARSON,
    scored=False,
    floor="no correlation",
    description="Correlation over windows of what was planned with what was done, in the dimensions of cem_error; mean "
    "over these.",
    floor_value=0.0,
    ceiling="perfect correlation",
    ceiling_value=1.0,
)
UNTIED = 1e-5
"""By what share of themselves costs are moved at random."""
REFERENCES = 16
"""Searches without signal, and with a perfect one, whose distances are averaged; they cost no imagination."""


@dataclass(frozen=True)
class PlanningConfig:
    """Recovering the actions between real frames by a search over the world model."""

    plan: PlanConfig = field(default_factory=lambda: PlanConfig(candidates=24, iterations=3, elites=6))
    """A coarser search than the planner's own default: more windows say more about a space than closer plans."""
    horizons: tuple[int, ...] = ()
    """Lengths of the plans that are measured; empty: plan.horizon alone."""
    windows: int = 160
    """Held-out windows that are planned for."""


@METRICS.register("planning")
class Planning(Metric):
    infos = (CEM_ERROR, CEM_ROTATION, CEM_STILL, CEM_R)
    Config = PlanningConfig
    config: PlanningConfig

    @property
    def horizons(self) -> tuple[int, ...]:
        return self.config.horizons or (self.config.plan.horizon,)

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        plan, windows = self.config.plan, self.config.windows
        imagined = plan.candidates * plan.iterations  # they share the context
        passes = sum(history + imagined * generating(plan.sampling, 0, horizon) for horizon in self.horizons)
        read = sum(history + horizon for horizon in self.horizons)
        return Load(windows * passes, read=windows * read, memory=plan.memory_mb * 2**20)

    def code(self) -> str:
        return code_of(PLANNERS.get(self.config.plan.planner))

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        search, spec = self.config.plan, evaluation.corpus.action_spec
        if not spec.moving:
            raise NotAvailable(f"nothing in the action ({', '.join(spec.names)}) moves the robot: no motion to recover")
        for horizon in self.horizons:
            yield from self._measure(evaluation, replace(search, horizon=horizon))

    def _measure(self, evaluation: Evaluation, config: PlanConfig) -> Iterator[Rows]:
        spec = evaluation.corpus.action_spec
        moves, turns = measured(spec)
        history = evaluation.world_model.config.dit.max_frames - 1
        batch = evaluation.batch(history + config.horizon, self.config.windows, "cem")
        past, true = batch.actions[:, : history - 1], batch.actions[:, history - 1 :]
        start = true.clone()
        start[..., spec.moving] = stand_still(spec, past, config.horizon)[..., spec.moving]
        planned = self._search(evaluation, config, batch.x.float(), past, start)

        def to_true(candidates: Tensor) -> Tensor:
            """Costs (N, K) of candidates (N, K, k, A)."""
            return (candidates - true[:, None])[..., spec.moving].square().sum((2, 3))

        blind, seeing = (self._references(evaluation, config, start, costs) for costs in (None, to_true))
        found: list[tuple[MetricInfo, Role, Tensor, list[int]]] = [
            (CEM_ERROR, "value", planned, moves),
            (CEM_ERROR, "floor", blind, moves),
            (CEM_ERROR, "ceiling", seeing, moves),
            (CEM_STILL, "value", start, moves),
            (CEM_ROTATION, "value", planned, turns),
            (CEM_ROTATION, "floor", blind, turns),
            (CEM_ROTATION, "ceiling", seeing, turns),
        ]
        for info, role, plans, dims in found:
            if dims:  # the mean over all but the windows, of plans (..., N, k, A)
                distance = (plans - true)[..., dims].norm(dim=-1).mean(-1).reshape(-1, len(true)).mean(0)
                yield evaluation.rows(info, batch.windows, distance, k=config.horizon, role=role)
        did, done = (plans[..., moves].transpose(1, 2) for plans in (planned, true))  # (N, dims, k)
        names = np.array(spec.names)[moves, None]
        yield evaluation.rows(CEM_R, batch.windows, did, k=config.horizon, dim=names, target=done)

    @staticmethod
    def _search(evaluation: Evaluation, config: PlanConfig, x: Tensor, past: Tensor, start: Tensor) -> Tensor:
        """Plans (N, k, A) of the world model; what doesn't move the robot stays true."""
        where, history = device(evaluation.compute), past.shape[1] + 1
        with torch.no_grad(), autocast(evaluation.compute):
            planner = Planner(
                evaluation.world_model,
                x[:, history:].to(where),
                PlannerConfig(config),
                generator(evaluation.seed, "cem"),
                given=start.to(where),
                searched=tuple(evaluation.corpus.action_spec.moving),
                cost=untied_distance(generator(evaluation.seed, "cem ties")),
            )
            seen = Observation(past.to(where), x[:, :history].to(where))
            planner.start(seen)
            planner.act(seen)
        evaluation.costs.setdefault("plan_seconds", planner.found.seconds / len(x))  # of the first horizon
        return planner.found.actions.cpu()

    @staticmethod
    def _references(evaluation: Evaluation, config: PlanConfig, start: Tensor, costs: Evaluate | None = None) -> Tensor:
        """Plans (REFERENCES, N, k, A) of the same search under other costs, by default such as tell nothing."""
        g, search = generator(evaluation.seed, "cem references"), PLANNERS.get(config.planner)
        searched = tuple(evaluation.corpus.action_spec.moving)
        plans = (search(costs or no_signal(g), start, config, g, searched).actions for _ in range(REFERENCES))
        return torch.stack([*plans])


def untied_distance(generator: torch.Generator) -> Cost:
    """The distance of latents, with ties broken at random as rounding breaks them in large networks: a search that is
    told that all candidates are the same would stay where it is, and seem to know more than one that is told nothing.
    """

    def distance(imagined: Tensor, goals: Tensor) -> Tensor:
        found = latent_distance(imagined, goals)
        drawn = torch.rand(found.shape, generator=generator, device=generator.device)
        return found * (1 + UNTIED * drawn.to(found.device))

    return distance


def measured(spec: ActionSpec) -> tuple[list[int], list[int]]:
    """The dimensions of cem_error: translations, or all that moves where there are none; and those of rotations."""
    moves = spec.where("translation")
    return (moves, spec.where("rotation", "angle", "quaternion")) if moves else (spec.moving, [])
