"""Planning: a search recovers the action between two real frames, started from zero (paper section 6.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rslwm.compute import autocast, device, generator
from rslwm.config import PlanConfig
from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.plan.base import PLANNERS, no_signal, plan
from rslwm.types import MetricRow, Role

CEM_ERROR = MetricInfo(
    name="cem_error",
    axis="planning",
    higher_is_better=False,
    unit="of the bounds",
    aggregate="mean",
    floor="do nothing (zero action)",
    ceiling="the true action",
    description="Distance of the translation that the planner (CEM by default) finds from the true one, in "
    "normalised action units (bounds at ±1).",
    ceiling_value=0.0,
)
CEM_ROTATION = replace(
    CEM_ERROR,
    name="cem_rotation_error",
    scored=False,
    description="The same distance for the rotation, searched in the same plan.",
)
CEM_NO_SIGNAL = replace(
    CEM_ERROR,
    name="cem_error_no_signal",
    scored=False,
    description="The same search with random costs: what it returns when the world model tells nothing.",
)
CEM_R = replace(
    CEM_ERROR,
    name="cem_r",
    higher_is_better=True,
    unit="Pearson r",
    aggregate="pearson",
    scored=False,
    floor="no correlation",
    description="Correlation of planned and true translations over windows, mean over dimensions.",
    floor_value=0.0,
    ceiling_value=1.0,
)


@METRICS.register("planning")
class Planning(Metric):
    infos = (CEM_ERROR, CEM_ROTATION, CEM_NO_SIGNAL, CEM_R)

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        config = evaluation.config.plan
        if not evaluation.corpus.action_spec.where("translation"):
            raise NotAvailable("the action spec has no translations to recover")
        for horizon in evaluation.config.plan_horizons or (config.horizon,):
            yield from self._measure(evaluation, replace(config, horizon=horizon))

    def _measure(self, evaluation: Evaluation, config: PlanConfig) -> Iterator[MetricRow]:
        spec = evaluation.corpus.action_spec
        moves, turns = spec.where("translation"), spec.where("rotation")
        history = evaluation.world_model.config.dit.max_frames - 1
        windows = evaluation.windows(history + config.horizon, config.windows, "cem")
        batch = evaluation.clips(history + config.horizon).batch(windows)
        true = batch.actions[:, history - 1 :]
        planned, blind = self._plan(evaluation, config, batch.x.float(), batch.actions, history, (*moves, *turns))

        def distance(a: Tensor, dims: list[int]) -> list[float]:
            return (a - true)[..., dims].norm(dim=-1).mean(1).tolist()

        nothing = torch.zeros_like(true)
        measured: list[tuple[MetricInfo, Role, list[float]]] = [
            (CEM_ERROR, "value", distance(planned, moves)),
            (CEM_ERROR, "floor", distance(nothing, moves)),
            (CEM_NO_SIGNAL, "value", distance(blind, moves)),
            (CEM_NO_SIGNAL, "floor", distance(nothing, moves)),
        ]
        if turns:
            measured += [
                (CEM_ROTATION, "value", distance(planned, turns)),
                (CEM_ROTATION, "floor", distance(nothing, turns)),
            ]
        for info, role, values in measured:
            for window, value in zip(windows, values, strict=True):
                yield evaluation.row(info, window, value, k=config.horizon, role=role)
        for i, window in enumerate(windows):
            for d in moves:
                for j in range(config.horizon):
                    value, target = float(planned[i, j, d]), float(true[i, j, d])
                    yield evaluation.row(CEM_R, window, value, target=target, k=config.horizon, dim=spec.names[d])

    @staticmethod
    def _plan(
        evaluation: Evaluation,
        config: PlanConfig,
        x: Tensor,
        actions: Tensor,
        history: int,
        searched: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        """Plans (N, k, A) of the world model and of a search with random costs; dimensions not searched stay true."""
        where = device(evaluation.compute)
        fixed = actions[:, history - 1 :]
        with torch.no_grad(), autocast(evaluation.compute):
            result = plan(
                evaluation.world_model,
                x[:, :history].to(where),
                actions[:, : history - 1].to(where),
                x[:, history:].to(where),
                config,
                generator(evaluation.config.seed, "cem"),
                searched,
                fixed.to(where),
            )
        evaluation.costs.setdefault("plan_seconds", result.seconds / len(x))  # of the first horizon
        g = generator(evaluation.config.seed, "cem without signal")
        blind = PLANNERS.get(config.planner)(no_signal(g), fixed, config, g, searched)
        return result.actions.cpu(), blind.actions
