"""What the metrics' tests ask of rows."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch

from rslwm.compute import generator
from rslwm.evals.aggregates import evaluate
from rslwm.evals.base import METRICS, metric_infos
from rslwm.evals.evaluation import Evaluation
from rslwm.types import MetricRow


def measure(name: str, evaluation: Evaluation) -> list[MetricRow]:
    return list(METRICS.get(name)().measure(evaluation))


def select(rows: list[MetricRow], metric: str, role: str = "value") -> list[MetricRow]:
    stored = metric_infos()[metric].source
    return [row for row in rows if (row.metric, row.role) == (stored, role)]


def summary(rows: list[MetricRow], metric: str, role: str = "value") -> float:
    """The metric as the study condenses it: its aggregate by (k, dim), then the mean of these."""
    groups: dict[tuple[int, str], list[MetricRow]] = defaultdict(list)
    for row in select(rows, metric, role):
        groups[row.k, row.dim].append(row)
    return float(np.mean([_aggregate(metric, group) for group in groups.values()]))


def _aggregate(metric: str, rows: list[MetricRow]) -> float:
    value, target = (np.array([getattr(row, name) for row in rows]) for name in ("value", "target"))
    one = np.zeros(len(rows), int)
    return float(evaluate(metric_infos()[metric].aggregate, value, target, one, one, np.ones((1, 1)))[0, 0])


def with_noise(evaluation: Evaluation, sigma: float) -> Evaluation:
    """The same, but what the world model generated is noisier by ``sigma``."""
    noise = sigma * torch.randn(evaluation.main.generated.shape, generator=generator(0, "planted"))
    evaluation.main = replace(evaluation.main, generated=evaluation.main.generated + noise)
    return evaluation


def with_constant_rollouts(evaluation: Evaluation) -> Evaluation:
    """The same, but the world model generates the same latents whatever it starts from and whatever is done."""
    evaluation.main = replace(evaluation.main, generated=torch.zeros_like(evaluation.main.generated))
    return evaluation
