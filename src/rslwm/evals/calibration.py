"""Does the world model know how sure it can be? Its futures of one state and action against many true ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import generator
from rslwm.evals.aggregates import MEAN, ROOT_RATIO, UNEVEN
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, Need
from rslwm.evals.ensembles import (
    covered,
    energy_score,
    fair_crps,
    rank,
    spread_and_error,
)
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.futures import POSITIONS, PRESENT, Futures, FuturesRecording
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.readout import StateProbe, StateTargets
from rslwm.evals.rollouts import RolloutsConfig, generating
from rslwm.evals.rows import Rows
from rslwm.evals.windows import strangers
from rslwm.model.sampler import SamplingConfig
from rslwm.types import Role

CRPS = MetricInfo(
    name="crps_gripper",
    axis="planning",
    question="Does it know how sure it can be?",
    rung=4,
    higher_is_better=False,
    unit="cm",
    aggregate=MEAN,
    floor="hold the last context frame still and read that",
    ceiling="other true futures of the same state and actions",
    description="Fair continuous ranked probability score of the gripper's position, read out of as many generated "
    "futures as there are true ones; mean over coordinates and true futures.",
)
CRPS_OBJECT = replace(
    CRPS,
    name="crps_object",
    description="The same of the objects' positions, mean over the objects that are there.",
)
ENERGY = replace(
    CRPS,
    name="energy_gripper",
    scored=False,
    description="Fair energy score of the gripper's position: the same for the whole vector.",
)
CLIMATOLOGY = replace(
    CRPS,
    name="crps_climatology",
    scored=False,
    description="The score of futures that only know how things move as a rule: from where the gripper is, the ways of "
    "other episodes.",
)
CERTAIN = replace(
    CRPS,
    name="crps_mean",
    scored=False,
    description="The score of the generated futures' mean alone. Where the spread is worth something, it is worse than "
    "crps_gripper.",
)
SPREAD = replace(
    CRPS,
    name="spread_error",
    scored=False,
    higher_is_better=True,
    unit="x error",
    aggregate=ROOT_RATIO,
    floor="no spread",
    floor_value=0.0,
    ceiling="as much spread as error",
    ceiling_value=1.0,
    description="Standard deviation of the generated futures over the error of their mean, with the factor for their "
    "number. 1 is right, less is overconfident, more is timid.",
)
COVERAGE = {
    share: replace(
        SPREAD,
        name=f"coverage_{share}",
        unit="of true futures",
        aggregate=MEAN,
        ceiling=f"{share / 100:g}",
        ceiling_value=share / 100,
        description=f"How often a true future lies in the central {share} % of the generated ones; more is timid.",
    )
    for share in (50, 90)
}
RANKS = replace(
    SPREAD,
    name="uneven_ranks",
    higher_is_better=False,
    unit="1",
    aggregate=UNEVEN,
    floor="all in one bin",
    floor_value=None,
    ceiling="flat",
    ceiling_value=0.0,
    description="How far the rank histogram is from flat: the rank of a true future among the generated ones, chi "
    "squared over the number of ranks.",
)
ONE_STEP = {
    replace(
        info, name=f"{info.name}_one_step", scored=False, description=f"{info.name} with a single denoising step."
    ): info
    for info in (CRPS, SPREAD)
}
CM = 100.0


@dataclass(frozen=True)
class CalibrationConfig:
    """Futures of the same state and actions, generated and true."""

    windows: int = 16
    """Held-out windows from whose context futures start."""
    members: int = 16
    """Futures of each window that are generated; there are twice as many true ones, half of them for the ceiling."""
    context: int = 2
    """Real frames that a future starts from."""
    future: int = 6
    """Frames of a future."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=4))
    """How futures are sampled; a single step is measured beside it."""


@dataclass(frozen=True)
class Positions:
    """Of n things in R futures of N windows, (R, N, F, n, 3) in centimetres; (N, n) says what is there."""

    futures: Tensor
    there: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """(N, F, n) over the things that are there, (N, F)."""
        weights = self.there[:, None]
        return (values * weights).sum(-1) / weights.sum(-1).clamp_min(1)


@METRICS.register("calibration")
class Calibration(Metric):
    infos = (
        CRPS, CRPS_OBJECT, ENERGY, CLIMATOLOGY, CERTAIN, SPREAD, *COVERAGE.values(), RANKS, *ONE_STEP,
    )  # fmt: skip
    core = False
    Config = CalibrationConfig
    config: CalibrationConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        c = self.config
        return {"true": FuturesRecording(c.windows, 2 * c.members, c.context, c.future), "probe": StateProbe()}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        c = self.config
        passes = sum(generating(s, c.context, c.future) for s in (c.sampling, replace(c.sampling, steps=1)))
        return Load(passes=c.windows * c.members * passes, read=c.windows * (c.context + c.future))

    def measure(self, evaluation: Evaluation, true: Futures, probe: TrainedProbe) -> Iterator[Rows]:
        c, windows = self.config, true.windows
        batch = evaluation.clips(c.context + c.future).batch(windows)
        context = batch.x[:, : c.context].float()
        targets = StateTargets.of(evaluation.corpus)
        mean, std = targets.moments(evaluation.corpus.train)

        def read(latents: Tensor) -> Tensor:
            """Positions (..., n, 3) in centimetres of frames (..., h, w, C)."""
            found = probe.apply(latents.flatten(0, -4)[:, None], evaluation.compute) * std + mean
            return CM * found.unflatten(1, (-1, 3)).unflatten(0, latents.shape[:-3])

        def imagined(sampling: SamplingConfig) -> Tensor:
            again, actions = context.repeat(c.members, 1, 1, 1, 1), batch.actions.repeat(c.members, 1, 1)
            made = evaluation.generate(again, actions, "calibration", sampling)
            return read(made.unflatten(0, (c.members, -1)))

        still = read(context[:, -1])[None, :, None].expand(-1, -1, c.future, -1, -1)
        drawn, hasty = imagined(c.sampling), imagined(replace(c.sampling, steps=1))
        usual = self._usual(evaluation, targets, windows)
        for part, things in (("gripper", slice(0, 1)), ("object", slice(1, None))):
            if POSITIONS[part] not in true.states or not targets.records(part):
                continue
            truth = _positions(true, part)
            sides = [replace(truth, futures=half) for half in truth.futures.chunk(2)]
            members = {name: x[..., things, :] for name, x in (("drawn", drawn), ("hasty", hasty), ("still", still))}
            rows = _Rows(evaluation, windows, sides[0])
            info = CRPS if part == "gripper" else CRPS_OBJECT
            yield rows.crps(info, "value", members["drawn"])
            yield rows.crps(info, "floor", members["still"])
            yield rows.crps(info, "ceiling", sides[1].futures)
            if part == "gripper":
                yield from rows.more(members["drawn"], members["hasty"], members["still"], usual, sides[1].futures)

    def _usual(self, evaluation: Evaluation, targets: StateTargets, windows: np.ndarray) -> Tensor:
        """Where the gripper is, and from there the ways of other episodes: (m, N, F, 1, 3) in centimetres."""
        c, skip = self.config, evaluation.corpus.config.frame_skip
        last = windows + np.array([0, (c.context - 1) * skip])
        start = targets.at(last)[0][:, :3]
        ways = torch.stack([targets.at(last + np.array([0, k * skip]))[0][:, :3] for k in range(1, c.future + 1)], 1)
        others = strangers(windows, c.members, evaluation.seed).T
        return CM * (start[None, :, None] + (ways - start[:, None])[others])[..., None, :]


def _positions(true: Futures, part: str) -> Positions:
    futures = CM * true.states[POSITIONS[part]].unflatten(-1, (-1, 3))
    there = torch.ones(futures.shape[1], futures.shape[3])
    if part == "object" and PRESENT in true.states:
        there = true.states[PRESENT][0, :, 0]
    return Positions(futures, there)


@dataclass(frozen=True)
class _Rows:
    """Rows of ensembles (m, N, F, n, 3) against true futures."""

    evaluation: Evaluation
    windows: np.ndarray
    truth: Positions

    def crps(self, info: MetricInfo, role: Role, members: Tensor) -> Rows:
        return self._rows(info, self._mean(lambda true: fair_crps(members, true).mean(-1)), role)

    def more(self, drawn: Tensor, hasty: Tensor, still: Tensor, usual: Tensor, others: Tensor) -> Iterator[Rows]:
        """What is shown of the gripper beside its score."""
        ensembles: tuple[tuple[Role, Tensor], ...] = ("value", drawn), ("floor", still), ("ceiling", others)
        for role, members in ensembles:
            yield self._rows(ENERGY, self._mean(lambda true, x=members: energy_score(x, true)), role)
        yield self.crps(CLIMATOLOGY, "value", usual)
        yield self.crps(CERTAIN, "value", drawn.mean(0, keepdim=True))
        hurried = {basic: info for info, basic in ONE_STEP.items()}
        yield self.crps(hurried[CRPS], "value", hasty)
        for info, members in ((SPREAD, drawn), (hurried[SPREAD], hasty)):
            variance = spread_and_error(members, members[0])[0]
            error = self._mean(lambda true, x=members: spread_and_error(x, true)[1])
            yield self._rows(info, self.truth.mean(variance), target=error)
        for share, info in COVERAGE.items():
            yield self._rows(info, self._mean(lambda true, s=share: covered(drawn, true, s / 100).mean(-1)))
        g = generator(self.evaluation.seed, "calibration ranks")
        ranks = rank(drawn, self.truth.futures[0], g)[:, :, 0]  # (N, F, 3)
        steps = np.arange(1, ranks.shape[1] + 1)[:, None]
        yield self.evaluation.rows(
            RANKS, self.windows, ranks, k=steps, dim=np.array([*"xyz"]), target=np.array(len(drawn))
        )

    def _mean(self, score) -> Tensor:  # type: ignore[no-untyped-def]
        """(N, F) of a score (N, F, n) of every true future."""
        return torch.stack([self.truth.mean(score(true)) for true in self.truth.futures]).mean(0)

    def _rows(self, info: MetricInfo, values: Tensor, role: Role = "value", target: Tensor | None = None) -> Rows:
        there = self.truth.there.any(1)
        steps = np.arange(1, values.shape[1] + 1)
        asked = np.nan if target is None else target[there]
        return self.evaluation.rows(info, self.windows[there.numpy()], values[there], k=steps, role=role, target=asked)
