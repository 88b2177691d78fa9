"""The success probe as a judge: it was trained on encoder latents, and reads generated ones as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rslwm.compute import ComputeConfig
from rslwm.evals.aggregates import THRESHOLD
from rslwm.evals.judges.base import JUDGES, Footage, Judge, Verdicts
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.success import spread
from rslwm.types import DataError


@JUDGES.register("probe")
@dataclass(frozen=True)
class ProbeJudge(Judge):
    """Reads the first, the middle and the last of a trial's last ``frames`` frames, as many as the probe's clips had
    (:class:`rslwm.evals.success.SuccessProbe`). It isn't told the task: the scene has to tell."""

    probe: TrainedProbe
    frames: int
    compute: ComputeConfig
    threshold: float = THRESHOLD
    """Both outcomes weighed the same when it was trained, so that this is the middle."""

    @property
    def name(self) -> str:
        return "probe"

    def judge(self, footage: Footage) -> Verdicts:
        """Raises also NotAvailable: the data couldn't train the probe."""
        if footage.latents is None or footage.latents.shape[1] < self.frames:
            has = "no latents" if footage.latents is None else f"{footage.latents.shape[1]} frames"
            raise DataError(f"probe judge: the footage has {has}; it reads the last {self.frames} latent frames")
        latents = footage.latents[:, -self.frames :]
        score = self.probe.apply(spread(latents).float(), self.compute).sigmoid()[:, 0].double().cpu().numpy()
        return Verdicts(score, score >= self.threshold, np.full(len(score), np.nan))
