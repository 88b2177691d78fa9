"""Success probe: is the task done at the end, told from encoder and from generated latents (paper section 8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.probes import final_windows, spread
from rslwm.types import MetricRow

AUC = MetricInfo(
    name="success_auc",
    axis="representation",
    higher_is_better=True,
    unit="AUC",
    aggregate="auc",
    floor="always the majority",
    ceiling="the true label",
    description="Area under the ROC curve of the success probe on encoder latents of an episode's last frames.",
    floor_value=0.5,
    ceiling_value=1.0,
)
ACCURACY = replace(
    AUC,
    name="success_accuracy",
    unit="balanced accuracy",
    aggregate="balanced_accuracy",
    scored=False,
    description="Balanced accuracy of the success probe on encoder latents of an episode's last frames.",
)
AUC_GENERATED = replace(
    AUC, name="success_auc_generated", description="The same frozen probe on generated latents of the same episodes."
)
ACCURACY_GENERATED = replace(
    ACCURACY,
    name="success_accuracy_generated",
    description="Balanced accuracy of the frozen probe on generated latents.",
)


@METRICS.register("success")
class Success(Metric):
    infos = (AUC, ACCURACY, AUC_GENERATED, ACCURACY_GENERATED)

    def measure(self, evaluation: Evaluation) -> Iterator[MetricRow]:
        evaluation.probes.require("success")
        labels = evaluation.corpus.dataset.success
        episodes = [e for e in evaluation.corpus.test if labels[e] is not None]
        if {labels[e] for e in episodes} != {True, False}:
            raise NotAvailable("the held-out episodes do not contain both outcomes")
        clips, windows = final_windows(evaluation.corpus, evaluation.latents, episodes)
        if clips.frames <= evaluation.config.context:
            raise NotAvailable(
                f"the shortest labelled episode holds {clips.frames} frames, and rollouts start from "
                f"{evaluation.config.context}"
            )
        rollouts = evaluation.rollouts(clips.batch(windows), "success rollouts")
        for latents, infos in (
            (clips.batch(windows).x.float(), (AUC, ACCURACY)),
            (rollouts.clip, (AUC_GENERATED, ACCURACY_GENERATED)),
        ):
            scores = evaluation.probes.apply("success", spread(latents), evaluation.compute).sigmoid()[:, 0]
            for window, score in zip(windows, scores.tolist(), strict=True):
                for info in infos:
                    yield evaluation.row(info, window, score, target=float(bool(labels[window[0]])))
