"""What the metrics' tests ask of rows, and of the point world under test."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from point_world import (
    PointSource,
    PointWorldModel,
    RandomPointSource,
    ReadAction,
    ReadGeometry,
    ReadGoal,
    ReadState,
    ReadSuccess,
    Recalls,
)
from rslwm.compute import ComputeConfig, generator
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.base import METRICS, ROLLOUTS, MetricInfo, named, split
from rslwm.evals.base import measure as rows_of
from rslwm.evals.config import EvalConfig
from rslwm.evals.evaluation import Evaluation, Label
from rslwm.evals.geometry import GeometryTargets, unit
from rslwm.evals.instructed import Instructions
from rslwm.evals.probe import Probe, TrainedProbe
from rslwm.evals.progress import Progress
from rslwm.evals.readout import StateTargets
from rslwm.evals.rollouts import Rollouts, make_rollouts
from rslwm.evals.rows import DTYPES, Rows
from rslwm.evals.truth import Recording

Row = NamedTuple("Row", [(name, Any) for name in DTYPES])  # type: ignore[misc]


@dataclass
class Subject(Evaluation):
    """A space under test with all that metrics may need of it."""

    config: EvalConfig = field(default_factory=EvalConfig)
    probes: dict[str, nn.Module | TrainedProbe] = field(default_factory=dict)

    @cached_property
    def main(self) -> Rollouts:
        """The rollouts that most metrics look at."""
        return make_rollouts(self, self.config.rollouts)

    def set(self, part: str, **changes: Any) -> None:
        """Change settings of one part of the configuration."""
        self.config = replace(self.config, **{part: replace(getattr(self.config, part), **changes)})

    def given(self, need: Any) -> Any:
        if need is ROLLOUTS:
            return self.main
        if isinstance(need, Recording):
            with TemporaryDirectory() as folder:
                need.make(self.truth, Path(folder))
                return need.open(Path(folder))
        assert isinstance(need, Probe)
        found = self.probes[need.name]
        return found if isinstance(found, TrainedProbe) else TrainedProbe(found)


def exact(
    corpus: Corpus, latents: TensorStore, config: EvalConfig, compute: ComputeConfig, model: Any = None
) -> Subject:
    """Everything as good as it can be: the right dynamics, the right probes, true latents."""
    probes: Mapping[str, nn.Module] = {
        "inverse-1": ReadAction(),
        "goal": ReadGoal(),
        "geometry": ReadGeometry(*unit(GeometryTargets.of(corpus), corpus)),
        "inverse-pooled-1": ReadAction(),
        "progress": Recalls(corpus, latents, progress(corpus)),
        "success-instructed": Recalls(corpus, latents, what_is_done(corpus)),
        "state": ReadState(*StateTargets.of(corpus).moments(corpus.train)),
        "success": ReadSuccess(),
    }
    label = Label("point", "floor", "exact", 0)
    model = model or PointWorldModel()
    source = PointSource("", corpus.config)
    return Subject(
        corpus, latents, model, config.seed, compute, label, source=source, config=config, probes=dict(probes)
    )


def progress(corpus: Corpus) -> list[torch.Tensor]:
    """What a progress probe should say of every frame."""
    known, lengths = Progress.of(corpus), corpus.dataset.lengths.tolist()
    return [known.at(np.array([(e, t) for t in range(length)])) for e, length in enumerate(lengths)]


def what_is_done(corpus: Corpus) -> list[torch.Tensor]:
    """What an instructed success probe should say of every frame: an episode's instruction, negated if it failed."""
    told, dataset = Instructions.of(corpus).embeddings, corpus.dataset
    signs = [1 if success else -1 for success in dataset.success]
    return [(sign * e).expand(int(n), -1) for sign, e, n in zip(signs, told, dataset.lengths, strict=True)]


CHANCY = {"calibration"}
"""What can be measured only where the world is random."""


def metric_infos() -> dict[str, MetricInfo]:
    """Every declared metric by name, in the order of registration."""
    infos = [info for name in METRICS for info in METRICS.get(name).infos]
    assert len({info.name for info in infos}) == len(infos), "two declare the same name"
    return {info.name: info for info in infos}


def table(name: str, evaluation: Subject) -> Rows:
    if split(name)[0] in CHANCY and type(evaluation.source) is PointSource:
        evaluation = replace(evaluation, source=RandomPointSource("", evaluation.corpus.config))
    metric = named(name, evaluation.config.settings)
    return rows_of(metric, evaluation, {name: evaluation.given(need) for name, need in metric.needs.items()})


def measure(name: str, evaluation: Subject) -> list[Row]:
    rows = table(name, evaluation)
    return [Row(*values) for values in zip(*(rows[column].tolist() for column in DTYPES), strict=True)]


def select(rows: list[Row], metric: str, role: str = "value") -> list[Row]:
    stored = metric_infos()[metric].source
    return [row for row in rows if (row.metric, row.role) == (stored, role)]


def summary(rows: list[Row], metric: str, role: str = "value") -> float:
    """The metric as the study condenses it: its aggregate by (k, dim), then the mean of these."""
    groups: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in select(rows, metric, role):
        groups[row.k, row.dim].append(row)
    return float(np.mean([_aggregate(metric, group) for group in groups.values()]))


def _aggregate(metric: str, rows: list[Row]) -> float:
    value, target = (np.array([getattr(row, name) for row in rows]) for name in ("value", "target"))
    one = np.zeros(len(rows), int)
    return float(metric_infos()[metric].aggregate.evaluate(value, target, one, one, np.ones((1, 1)))[0, 0])


def with_noise(evaluation: Subject, sigma: float) -> Subject:
    """The same, but what the world model generated is noisier by ``sigma``."""
    noise = sigma * torch.randn(evaluation.main.generated.shape, generator=generator(0, "planted"))
    evaluation.main = replace(evaluation.main, generated=evaluation.main.generated + noise)
    return evaluation


def with_constant_rollouts(evaluation: Subject) -> Subject:
    """The same, but the world model generates the same latents whatever it starts from and whatever is done."""
    evaluation.main = replace(evaluation.main, generated=torch.zeros_like(evaluation.main.generated))
    return evaluation


def with_latents(evaluation: Subject, change: Callable[[Tensor], Tensor], folder: Path) -> Subject:
    """The same with other latents of every episode (T, h, w, C)."""
    store, keys = evaluation.latents, evaluation.corpus.dataset.ids
    changed = [(key, change(store.read([(key, range(store.shape(key)[0]))])[0].float())) for key in keys]
    return replace(evaluation, latents=TensorStore.write(folder, changed, {"of": "changed"}))


def swapped(corpus: Corpus) -> Corpus:
    """The same latents with the actions of another episode, the fifth one on, which is as long."""
    moved = [corpus.actions[(i + 5) % len(corpus.actions)] for i in range(len(corpus.actions))]
    assert [len(actions) for actions in moved] == corpus.dataset.lengths.tolist()
    vars(corpus)["actions"] = moved  # a cached property
    return corpus
