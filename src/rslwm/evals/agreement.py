"""Can one tell when a rollout goes wrong? By the actions read back from it, which should be those requested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.envs.trusted import disagreement
from rslwm.evals.aggregates import AUC, MEAN
from rslwm.evals.base import METRICS, ROLLOUTS, Metric, MetricInfo, Need, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.inverse_dynamics import InverseProbe
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.readout import StateProbe, StateTargets
from rslwm.evals.rollouts import Rollouts
from rslwm.evals.rows import Rows, numbered
from rslwm.types import Role

TRUST_AUC = MetricInfo(
    name="trust_auc",
    axis="planning",
    question="Can one tell when it goes wrong?",
    rung=3,
    higher_is_better=True,
    unit="AUC",
    aggregate=AUC,
    floor="the requested actions alone: what the same probe disagrees with where the last context frame stays",
    ceiling="every rollout that left the truth is told from every one that didn't",
    ceiling_value=1.0,
    description="How well the disagreement of the actions read back from generated frames with those requested, mean "
    "up to a step, tells rollouts whose gripper has left the truth from others, step by step.",
)
TRUST_ERROR = replace(
    TRUST_AUC,
    name="trust_error",
    higher_is_better=False,
    unit="of the bounds",
    aggregate=MEAN,
    scored=False,
    floor="hold the last context frame still",
    ceiling="the true frames, encoded",
    ceiling_value=None,
    description="That disagreement itself: root mean square over the action's dimensions, in normalised units, mean up "
    "to a step.",
)
_CM = 100.0


@dataclass(frozen=True)
class TrustConfig:
    """The disagreement of rollouts with their actions, against whether they left the truth."""

    left_at: float = 3.0
    """Centimetres between the gripper's position read out of generated latents and the recorded one from which on a
    rollout has left the truth."""


@METRICS.register("trust")
class Trust(Metric):
    infos = (TRUST_AUC, TRUST_ERROR)
    core = False
    Config = TrustConfig
    config: TrustConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"rollouts": ROLLOUTS, "inverse": InverseProbe(1), "state": StateProbe()}

    def measure(
        self, evaluation: Evaluation, rollouts: Rollouts, inverse: TrainedProbe, state: TrainedProbe
    ) -> Iterator[Rows]:
        steps = np.arange(1, rollouts.future + 1)
        requested = rollouts.actions[:, rollouts.context.shape[1] - 1 :]

        def found(future: Tensor) -> Tensor:
            """(N, F) of futures (N, F, h, w, C)."""
            frames = torch.cat([rollouts.context[:, -1:], future], 1)
            return running(read_back(inverse, frames, evaluation), requested)

        still = rollouts.context[:, -1:].expand_as(rollouts.generated)
        futures: dict[Role, Tensor] = {"value": rollouts.generated, "floor": still, "ceiling": rollouts.true}
        disagreements = {role: found(future) for role, future in futures.items()}
        for role, values in disagreements.items():
            yield evaluation.rows(TRUST_ERROR, rollouts.windows, values, k=steps, role=role)
        left = (self._astray(evaluation, rollouts, state) > self.config.left_at).float()
        for role, values in disagreements.items():
            if role != "ceiling":
                yield evaluation.rows(TRUST_AUC, rollouts.windows, values, k=steps, role=role, target=left)

    @staticmethod
    def _astray(evaluation: Evaluation, rollouts: Rollouts, probe: TrainedProbe) -> Tensor:
        """Centimetres (N, F) between the gripper in generated latents and where it really was."""
        targets = StateTargets.of(evaluation.corpus)
        if not targets.records("gripper"):
            raise NotAvailable("the data record no gripper positions: nobody knows which rollouts leave the truth")
        mean, std = targets.moments(evaluation.corpus.train)
        read = probe.apply(rollouts.generated.flatten(0, 1)[:, None], evaluation.compute) * std + mean
        skip, first = evaluation.corpus.config.frame_skip, rollouts.context.shape[1]
        steps = (first + np.arange(rollouts.future)) * skip
        places = rollouts.windows[:, None] + np.stack([np.zeros_like(steps), steps], 1)
        true = targets.at(places.reshape(-1, 2))[0]
        return _CM * (read - true)[:, :3].norm(dim=1).unflatten(0, (-1, rollouts.future))


def read_back(probe: TrainedProbe, frames: Tensor, evaluation: Evaluation) -> Tensor:
    """Actions (N, F, A) between the frames (N, F+1, h, w, C)."""
    pairs = torch.stack([frames[:, :-1], frames[:, 1:]], 2)
    return probe.apply(pairs.flatten(0, 1), evaluation.compute).unflatten(0, pairs.shape[:2])


def running(read: Tensor, requested: Tensor) -> Tensor:
    """The mean disagreement (N, F) up to each step, of actions (N, F, A)."""
    found = disagreement(read, requested)
    return found.cumsum(1) / torch.arange(1, found.shape[1] + 1)


def limit_for(rows: Rows, kept: float = 0.95) -> float:
    """The limit of the running disagreement under which this share of the good rollouts stays to its end, for
    :class:`rslwm.envs.trusted.Trusted`; good are those that never left the truth.

    Args:
        rows: of ``trust_auc`` in one space and training.

    Raises:
        NotAvailable: no rollout is good.
    """
    rows = rows.where((rows["metric"] == TRUST_AUC.name) & (rows["role"] == "value"))
    (_, unit), (windows, window) = numbered(rows["unit"]), numbered(rows["window"])
    _, rollout = np.unique(unit * len(windows) + window, return_inverse=True)
    highest, left = np.full((2, rollout.max(initial=-1) + 1), -np.inf)
    np.maximum.at(highest, rollout, rows["value"])
    np.maximum.at(left, rollout, rows["target"])
    if not (good := left == 0).any():
        raise NotAvailable("every rollout left the truth: there is no good one that a limit could keep")
    return float(np.quantile(highest[good], kept, method="inverted_cdf"))
