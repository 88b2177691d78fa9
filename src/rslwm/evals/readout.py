"""Ground truth read out of latents: where the gripper and the objects are, in centimetres."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.types import MetricRow, Role

GRIPPER = MetricInfo(
    name="gripper_error",
    axis="representation",
    higher_is_better=False,
    unit="cm",
    aggregate="mean",
    floor="predict the training episodes' mean position",
    ceiling="the true state",
    description="Distance between the gripper's position read out of encoder latents and the true one.",
    ceiling_value=0.0,
)
OBJECT = replace(
    GRIPPER,
    name="object_error",
    description="Distance between the objects' positions read out of encoder latents and the true ones, mean over the "
    "objects that are there.",
)


STILL = "hold the last context frame still and read that"


class ReadOut(Metric):
    """The state probe on encoder latents, and frozen on generated ones against what really happened."""

    what: ClassVar[str]
    part: ClassVar[slice]
    """The positions that count, among the gripper's and then the objects'."""

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        evaluation.probes.require("state")
        if not evaluation.probes.targets.records(self.what):
            raise NotAvailable(f"the data record no {self.what} positions")
        encoder, generated = self.infos
        windows = evaluation.windows(1, evaluation.config.encoder_windows, "read-out")
        read = evaluation.probes.positions(evaluation.clips(1).batch(windows).x, evaluation.compute)
        mean = evaluation.probes.mean.expand_as(read)
        yield from self._rows(evaluation, encoder, windows, windows, 0, {"value": read, "floor": mean})
        rollouts, skip = evaluation.main, evaluation.corpus.config.frame_skip
        still = evaluation.probes.positions(rollouts.context[:, -1:], evaluation.compute)
        for k in range(1, evaluation.future + 1):
            frames = rollouts.windows + np.array([0, (evaluation.config.context - 1 + k) * skip])
            read = evaluation.probes.positions(rollouts.generated[:, k - 1 : k], evaluation.compute)
            guesses: dict[Role, Tensor] = {"value": read, "floor": still}
            yield from self._rows(evaluation, generated, rollouts.windows, frames, k, guesses)

    def _rows(
        self,
        evaluation: Evaluation,
        info: MetricInfo,
        windows: np.ndarray,
        frames: np.ndarray,
        k: int,
        guesses: dict[Role, Tensor],
    ) -> Iterator[MetricRow]:
        """Rows of positions (N, 3 + 3n) whose truth stands at ``frames`` (episode, frame)."""
        truth, mask = evaluation.probes.targets.at(frames)
        there = mask[:, ::3][:, self.part]
        for role, values in guesses.items():
            distance = 100 * (values - truth).unflatten(1, (-1, 3)).norm(dim=-1)[:, self.part]
            means = (distance * there).sum(1) / there.sum(1).clamp_min(1)
            for window, mean, count in zip(windows, means.tolist(), there.sum(1).tolist(), strict=True):
                if count:
                    yield evaluation.row(info, window, mean, k=k, role=role)


@METRICS.register("gripper_readout")
class GripperReadOut(ReadOut):
    what, part = "gripper", slice(0, 1)
    infos = (
        GRIPPER,
        replace(
            GRIPPER,
            name="gripper_error_generated",
            floor=STILL,
            description="The same read-out on generated latents, against where the gripper really went.",
        ),
    )


@METRICS.register("object_readout")
class ObjectReadOut(ReadOut):
    what, part = "object", slice(1, None)
    infos = (
        OBJECT,
        replace(
            OBJECT,
            name="object_error_generated",
            floor=STILL,
            description="The same read-out on generated latents, against where the objects really went.",
        ),
    )
