"""Does success inside the world model tell how good a policy truly is? Policies act in both, from the same beginnings.

What counts is a policy: another one with another training is another unit, another episode isn't.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from rslwm.actors import policies
from rslwm.actors.blind import Recorded
from rslwm.actors.policy import pictures
from rslwm.actors.words import numbered
from rslwm.envs.trusted import disagreement
from rslwm.evals.aggregates import BALANCED_ACCURACY, BIAS, RATES_PEARSON
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, Need
from rslwm.evals.disagreements import Disagreements
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.imagined_trials import Imaginations, Stage, footage_of, through
from rslwm.evals.inverse_dynamics import InverseProbe
from rslwm.evals.judges.base import Footage
from rslwm.evals.judges.seen import SeenJudge
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.rollouts import RolloutsConfig, generating
from rslwm.evals.rows import Rows
from rslwm.evals.trials import (
    FAILED,
    Beginnings,
    BeginningsRecording,
    Trials,
    TrialsConfig,
    TrialsRecording,
    digest,
    everyone,
    left,
    named,
    outcomes,
)
from rslwm.latents.views import to_bytes, to_float
from rslwm.model.sampler import SamplingConfig
from rslwm.sim.sight import WIDTH

POLICY_R = MetricInfo(
    name="policy_r",
    axis="planning",
    question="Does it tell how good a policy is?",
    rung=5,
    higher_is_better=True,
    unit="Pearson r",
    aggregate=RATES_PEARSON,
    floor="success in the world model has nothing to do with the policy",
    floor_value=0.0,
    ceiling="the true order, at the true distances",
    ceiling_value=1.0,
    description="Correlation, over policies, of their success inside the world model with that in the true world from "
    "the same beginnings, mean over tasks; a judge that reads decoded frames says what success is.",
    counts="policies",
)
WITHIN = replace(
    POLICY_R,
    name="policy_r_within",
    scored=False,
    description="The same within each kind of task: that some are easier than others counts for nothing.",
)
BY_HORIZON = replace(
    POLICY_R,
    name="policy_r_by_horizon",
    scored=False,
    description="The same of success within so many actions, in both worlds.",
)
POLICY_BIAS = replace(
    POLICY_R,
    name="policy_bias",
    higher_is_better=False,
    unit="of trials",
    aggregate=BIAS,
    scored=False,
    floor="",
    floor_value=None,
    ceiling="success is as frequent in both",
    ceiling_value=0.0,
    description="Success inside the world model minus true success, mean over policies and tasks; above 0 it is too "
    "optimistic.",
)
PARTS = replace(
    POLICY_R,
    name="policy_r_parts",
    scored=False,
    description="The same where one part is replaced by its true counterpart, on fewer trials: true dynamics, seen "
    "through the latent space; what the actions chosen in the model truly come to, instead of the judge; actions "
    "chosen from true frames. Beside them nothing is replaced, or only the half of trials counts whose actions can be "
    "read back best.",
)
JUDGED = replace(
    POLICY_R,
    name="judge_accuracy",
    unit="balanced accuracy",
    aggregate=BALANCED_ACCURACY,
    scored=False,
    floor="always the same",
    floor_value=0.5,
    ceiling="every trial is judged rightly",
    description="Balanced accuracy of the judge on films of true trials, encoded and decoded, none of which it was "
    "fitted to.",
)
_AT_ONCE = 256
APART = 100_000
"""Between the windows of two kinds of task, which are numbered by trial."""


@dataclass(frozen=True)
class PoliciesConfig:
    """Policies in the true world and in the world model."""

    policies: tuple[str, ...] = ()
    """Who acts, parted by spaces: ladder (all policies that are shipped, which is the default) or some of their names,
    path/to/mapping.yaml of a policy at an address, another actor's name or path/to/file.py:Class."""
    trials: TrialsConfig = field(default_factory=TrialsConfig)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=4))
    """How futures are sampled."""
    hold: int = 2
    """Frames in a row in which a task's rule must be met."""
    horizons: tuple[int, ...] = (5, 10, 15, 20)
    """Numbers of actions within which success is counted, too."""
    parts: int = 10
    """Trials of every policy and kind of task in which parts are replaced by their true counterparts; 0 leaves it."""


@METRICS.register("policies")
class Policies(Metric):
    infos = (POLICY_R, WITHIN, BY_HORIZON, replace(POLICY_BIAS, rows_of="policy_r"), PARTS, JUDGED)
    core = False
    Config = PoliciesConfig
    config: PoliciesConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        trials = self.config.trials
        played = {name: TrialsRecording(trials, name, digest(name)) for name in everyone(self.config.policies)}
        return {"beginnings": BeginningsRecording(trials), "inverse": InverseProbe(1), **played}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        c, trials = self.config, self.config.trials
        count = len(everyone(c.policies)) * len(trials.families) * (trials.trials + c.parts)
        frames = count * generating(c.sampling, trials.context, trials.actions)
        return Load(frames, decoded=count * (trials.context + trials.actions))

    def measure(
        self, evaluation: Evaluation, beginnings: Beginnings, inverse: TrainedProbe, **played: Trials
    ) -> Iterator[Rows]:
        """``played`` are the true trials by policy."""
        c = self.config
        stage = Stage(evaluation, beginnings, c.trials, c.sampling)
        judge = self._judge(beginnings, played)
        yield from self._calibrated(evaluation, judge, beginnings, played)
        apart = Disagreements()
        for name, true in played.items():
            report = _Report(evaluation, name, c)
            for kind, family in enumerate(c.trials.families):
                actor = named(name, evaluation.world_model.action_spec)
                imagined = stage.imagine(actor, kind, slice(c.trials.trials))
                when = judge.when(imagined.footage)
                when[[*left(actor)]] = np.nan
                yield from report.success(kind, family, _actions(when, c.trials.context), true)
                apart.consider(f"{name}, {family}", kind, _ever(when), true, imagined)
                if c.parts:
                    yield from self._parts(stage, judge, report, kind, true, imagined, when, inverse)
        evaluation.films += apart.films(stage)

    def _judge(self, beginnings: Beginnings, played: Mapping[str, Trials]) -> SeenJudge:
        """Fitted to the first half of all films, as they are: one instrument for all spaces."""
        films = [_filmed(beginnings, true, kind, slice(true.filmed // 2)) for true, kind in _every(played, beginnings)]
        footage, done = footage_of([film for film, _ in films]), np.concatenate([done for _, done in films])
        return SeenJudge.fitted(look, footage, done, self.config.hold, ever=True)

    def _calibrated(
        self, evaluation: Evaluation, judge: SeenJudge, beginnings: Beginnings, played: Mapping[str, Trials]
    ) -> Iterator[Rows]:
        """On the other half, seen through the latent space."""
        report = {name: _Report(evaluation, name, self.config) for name in played}
        for name, true in played.items():
            for kind, family in enumerate(self.config.trials.families):
                film, done = _filmed(beginnings, true, kind, slice(true.filmed // 2, None))
                if film.frames is None or not len(done):
                    continue  # the policy never answered
                seen = through(evaluation, to_float(torch.from_numpy(film.frames)))
                says = judge.judge(replace(film, frames=to_bytes(seen).numpy()))
                yield report[name].rows(JUDGED, kind, says.outcomes, done, dim=family)

    def _parts(
        self,
        stage: Stage,
        judge: SeenJudge,
        report: _Report,
        kind: int,
        true: Trials,
        imagined: Imaginations,
        when: np.ndarray,
        inverse: TrainedProbe,
    ) -> Iterator[Rows]:
        """What success would be with one part replaced."""
        n = self.config.parts
        truth = true.outcomes()[kind, :n].numpy()
        actor = named(report.policy, stage.evaluation.world_model.action_spec)
        through_space, frames = stage.truly(actor, kind, n, through=True)
        footage = replace(imagined.footage, frames=frames, instructions=imagined.footage.instructions[:n], latents=None,
                          tasks=imagined.footage.tasks[:n])  # fmt: skip
        chosen, _ = stage.truly(Recorded(imagined.actions[:n]), kind, n)
        replayed = stage.replayed(true.actions[kind, :n], kind)
        found = {
            "nothing": _ever(when[:n]),
            "true dynamics": _ever(judge.when(footage)),
            "true dynamics and judge": through_space.float().numpy(),
            "true judge": chosen.float().numpy(),
            "true frames": _ever(judge.when(replayed)),
        }
        for part, success in found.items():
            yield report.rows(PARTS, kind, success, truth, dim=part)
        if not inverse.absent:
            apart = _disagreement(inverse, imagined, stage.evaluation)
            kept = apart <= np.median(apart)
            everything = true.outcomes()[kind].numpy()
            for part, which in (("all trials", slice(None)), ("trusted half", kept)):
                yield report.rows(PARTS, kind, _ever(when)[which], everything[which], dim=part)


def _every(played: Mapping[str, Trials], beginnings: Beginnings) -> Iterator[tuple[Trials, int]]:
    return ((true, kind) for true in played.values() for kind in range(len(beginnings.tasks)))


@dataclass(frozen=True)
class _Report:
    """Rows of one policy."""

    evaluation: Evaluation
    policy: str
    config: PoliciesConfig

    def success(self, kind: int, family: str, actions: np.ndarray, true: Trials) -> Iterator[Rows]:
        """Of trials that were done, as judged, after so many actions (B,); -1 never, NaN unjudged."""
        done = torch.where(torch.from_numpy(np.isnan(actions)), -2.0, torch.from_numpy(np.nan_to_num(actions)))
        most = self.config.trials.actions
        whole = outcomes(done, most).numpy(), true.outcomes()[kind].numpy()
        yield self.rows(POLICY_R, kind, *whole, k=most)
        yield self.rows(WITHIN, kind, *whole, k=most, dim=family)
        for k in self.config.horizons:
            yield self.rows(BY_HORIZON, kind, outcomes(done, k).numpy(), true.outcomes(k)[kind].numpy(), k=k)

    def rows(
        self, info: MetricInfo, kind: int, value: np.ndarray, target: np.ndarray, k: int = 0, dim: str = ""
    ) -> Rows:
        """Of trials of one kind of task."""
        return Rows.broadcast(
            **vars(self.evaluation.label),
            metric=info.name,
            axis=info.axis,
            split=self.evaluation.split,
            unit=self.policy,
            k=k,
            value=value,
            higher_is_better=info.higher_is_better,
            target=target,
            window=kind * APART + np.arange(len(value)),
            dim=dim,
        )


def _filmed(beginnings: Beginnings, true: Trials, kind: int, which: slice) -> tuple[Footage, np.ndarray]:
    """Films of one kind of task whose policy didn't fail to answer, and whether they show success."""
    first = beginnings.frames.shape[1] - true.filmed
    done = true.done[kind, first:][which]
    kept = [i for i, when in zip(range(first, beginnings.frames.shape[1])[which], done, strict=True) if when != FAILED]
    words = tuple(beginnings.instructions[kind][i] for i in kept)
    tasks = tuple(beginnings.tasks[kind][i] for i in kept)
    shown = true.films[kind, [i - first for i in kept]].numpy()
    return Footage(words, shown, tasks=tasks), (done[done != FAILED] >= 0).numpy()


def _actions(when: np.ndarray, context: int) -> np.ndarray:
    """Frames (B,) as numbers of actions."""
    return np.where(when >= 0, np.maximum(when - (context - 1), 0), when)


def _ever(when: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(when), np.nan, (when >= 0).astype(float))


def _disagreement(inverse: TrainedProbe, imagined: Imaginations, evaluation: Evaluation) -> np.ndarray:
    """Of the actions read back with those requested, (B,), mean over the steps."""
    steps = imagined.actions.shape[1]
    pairs = imagined.latents[:, -steps - 1 :].unfold(1, 2, 1).movedim(-1, 2)
    read = inverse.apply(pairs.flatten(0, 1), evaluation.compute).unflatten(0, (-1, steps))
    return disagreement(read, imagined.actions).mean(1).numpy()


@cache
def _eyes() -> Any:
    network: Any = policies.load(policies.JUDGE, policies.SHIPPED / policies.JUDGE).network
    return network


def look(frames: np.ndarray, instructions: tuple[str, ...]) -> np.ndarray:
    """Facts (B, T, WIDTH) of frames (B, T, H, W, 3) uint8."""
    if not len(frames):
        return np.zeros((0, frames.shape[1], WIDTH))
    network, times = _eyes(), frames.shape[1]
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        words = network.read(numbered(instructions)).repeat_interleave(times, 0)
        shown = torch.from_numpy(frames).flatten(0, 1)[:, None].split(_AT_ONCE)
        found = [
            network(pictures(to_float(part)), said)[0] for part, said in zip(shown, words.split(_AT_ONCE), strict=True)
        ]
    return torch.cat(found).unflatten(0, (len(frames), times)).double().numpy()
