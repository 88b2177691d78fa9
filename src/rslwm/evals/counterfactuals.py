"""Does the imagined future follow the action? What the world model imagines under other actions, beside the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import autocast, device, generator
from rslwm.evals.aggregates import MEAN, RATIO
from rslwm.evals.base import METRICS, Load, Metric, MetricInfo, Need, NotAvailable
from rslwm.evals.branches import RECORDED, STILL, Branches, BranchRecording, differ, told_apart
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.prediction import MEAN_PREDICTION
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.readout import StateProbe, StateTargets
from rslwm.evals.rollouts import RolloutsConfig, generating
from rslwm.evals.rows import Rows

QUESTION = "Does the imagined future follow the action?"
MATCHING = MetricInfo(
    name="branch_matching",
    axis="planning",
    higher_is_better=True,
    unit="of pairs",
    aggregate=MEAN,
    floor="chance: what is imagined doesn't depend on the action",
    ceiling="every pair is matched rightly",
    description="Of two futures that truly follow from one moment, and the two imagined under the same actions, how "
    "often these fit as they are, in latents, and not swapped; over all pairs of the recorded actions, standing still, "
    "and recorded actions of other episodes. Noise in the latents can only lower it.",
    floor_value=0.5,
    ceiling_value=1.0,
    question=QUESTION,
    rung=4,
)
IDENTIFICATION = replace(
    MATCHING,
    name="branch_identification",
    unit="of branches",
    floor="chance: one of the branches that can be told apart",
    ceiling="every true future is nearest to what was imagined under its own actions",
    description="How often a true future is nearer, in latents, to what was imagined under its own actions than to "
    "what was imagined under any of the others.",
    scored=False,
    floor_value=None,
)
EFFECT = MetricInfo(
    name="effect_error",
    axis="planning",
    higher_is_better=False,
    unit="of the true effect",
    aggregate=RATIO,
    floor="no effect: every branch is imagined as standing still",
    ceiling="the true effect",
    description="What an action changes against standing still, imagined against true: squared error of the "
    "difference in latents, relative to the true difference squared. What of the latents can't be predicted pushes it "
    "to 1, so this ranks world models of one space, not spaces.",
    scored=False,
    floor_value=1.0,
    ceiling_value=0.0,
    question=QUESTION,
    rung=4,
)
GRIPPER = replace(
    EFFECT,
    name="effect_error_gripper",
    description="The same of the gripper's position in centimetres, read out of what is imagined by the frozen state "
    "probe, against the simulator's truth: the same truth for every space.",
    scored=True,
)
OBJECTS = replace(
    EFFECT,
    name="effect_error_objects",
    description="The same of the objects' positions. Few branches move one, and these decide.",
)
REGRET = replace(
    EFFECT,
    name="branch_regret",
    unit="of a random pick",
    floor="a random pick",
    ceiling="the branch that ends nearest to the goal",
    description="The model picks the branch that it imagines to end nearest, in latents, to the true end of the "
    "recorded one: how far the picked one really ends from there (gripper plus objects, in centimetres), relative to "
    "the mean over the branches, both above the least.",
)
NEAR = replace(
    MATCHING,
    name="near_miss_matching",
    description="The same of the recorded actions and of such as are off by a size (the dimension, in normalised "
    "units) in a random direction.",
    scored=False,
)
NEAR_EFFECT = replace(
    EFFECT,
    name="near_miss_effect_error",
    floor="no effect: the near miss is imagined as what was recorded",
    description="What a near miss changes against the recorded actions, imagined against true, in latents, by size.",
)
AT_ONCE = 4
"""Moments whose futures are imagined and compared at once; bounds the memory."""


@dataclass(frozen=True)
class CounterfactualsConfig:
    """Futures imagined from held-out moments under several sequences of actions, beside what the true world does."""

    windows: int = 16
    """Held-out moments from which the branches part."""
    branches: int = 8
    """Sequences of actions that are told from each other: the recorded one, standing still, and those of other
    episodes."""
    context: int = 2
    """Real frames that the model sees before."""
    future: int = 4
    """Frames of a branch, each with an action of its own."""
    sizes: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8)
    """How far near misses are off the recorded actions in every step, in normalised units."""


@dataclass(frozen=True)
class Compared:
    """Imagined futures beside true ones, of N moments in K ways of F steps, near misses included.

    ``distance`` (N, K, K, F) is the mean squared distance of what is imagined in way i from the truth of way j.
    ``moved`` is how far the true latents of each way are from those of standing still and of the recorded way, mean
    squared, ``missed`` how far the imagined difference is from the true one; both are (2, N, K, F) in that order.
    ``positions`` (N, K, F, 1 + n, 3) are read out of what is imagined, in centimetres, if there is a probe.
    """

    distance: Tensor
    moved: Tensor
    missed: Tensor
    positions: Tensor | None


@METRICS.register("counterfactuals")
class Counterfactuals(Metric):
    """Pairs are matched rather than one future found among all eight: a model's mean moves less than the truth, which
    matching doesn't mind, while the true future nearest to it is mostly the one of standing still (figures in LOG.md,
    2026-11-27).
    """

    infos = (MATCHING, IDENTIFICATION, EFFECT, GRIPPER, OBJECTS, REGRET, NEAR, NEAR_EFFECT)
    core = False
    Config = CounterfactualsConfig
    config: CounterfactualsConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"branches": BranchRecording(**vars(self.config)), "probe": StateProbe()}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        config = self.config
        ways = config.branches + len(config.sizes)
        passes = config.windows * (config.context + ways * generating(MEAN_PREDICTION, 0, config.future))
        return Load(passes, read=config.windows * config.context)

    def measure(self, evaluation: Evaluation, branches: Branches, probe: TrainedProbe) -> Iterator[Rows]:
        compared = compare(evaluation, branches, probe)
        yield from self._identification(evaluation, branches, compared)
        yield from self._effects(evaluation, branches, compared)
        yield from self._regret(evaluation, branches, compared)
        yield from self._near_misses(evaluation, branches, compared)

    @staticmethod
    def _identification(evaluation: Evaluation, branches: Branches, compared: Compared) -> Iterator[Rows]:
        few = branches.count
        distance, frames = compared.distance[:, :few, :few], branches.frames[:, :few]
        telling = torch.stack([differ(frames[:, [way]], frames) for way in range(few)], 1)
        if not telling.any():
            raise NotAvailable("whatever is done looks the same: there is nothing to tell futures apart by")
        told = told_apart(frames)
        choices, fit, found = told.sum(1), matched(distance, telling), identified(distance, told)
        for k, counts in enumerate((choices > 1).T.numpy(), 1):
            windows = branches.windows[counts]
            yield evaluation.rows(MATCHING, windows, fit[counts, k - 1], k=k)
            yield evaluation.rows(IDENTIFICATION, windows, found[counts, k - 1], k=k)
            yield evaluation.rows(IDENTIFICATION, windows, 1 / choices[counts, k - 1], k=k, role="floor")

    @staticmethod
    def _effects(evaluation: Evaluation, branches: Branches, compared: Compared) -> Iterator[Rows]:
        """A row a moment and step, summed over the branches."""
        steps, few = np.arange(1, branches.actions.shape[2] + 1), branches.count
        missed, moved = (x[0, :, :few].sum(1) for x in (compared.missed, compared.moved))
        yield evaluation.rows(EFFECT, branches.windows, missed, k=steps, target=moved)
        if compared.positions is None:
            return
        guess, true = (x[:, :few] - x[:, [STILL]] for x in (compared.positions, branches.positions))
        there = branches.there[:, :few]
        missed, moved = ((x.square().sum(-1) * there).sum(1) for x in (guess - true, true))  # (N, F, 1 + n)
        for info, part in ((GRIPPER, slice(0, 1)), (OBJECTS, slice(1, None))):
            wrong, right = missed[..., part].sum(-1), moved[..., part].sum(-1)
            if right.any():
                yield evaluation.rows(info, branches.windows, wrong, k=steps, target=right)

    @staticmethod
    def _regret(evaluation: Evaluation, branches: Branches, compared: Compared) -> Iterator[Rows]:
        few = branches.count
        cost = compared.distance[:, :few, RECORDED, -1]
        picked = (cost == cost.amin(1, keepdim=True)).float()  # of several that are equally near, each as often
        ends, there = branches.positions[:, :few, -1], branches.there[:, :few, -1]
        away = ((ends - ends[:, [RECORDED]]).norm(dim=-1) * there).sum(-1)
        least = away.amin(1)
        regret = (away * picked).sum(1) / picked.sum(1) - least
        k = branches.actions.shape[2]
        yield evaluation.rows(REGRET, branches.windows, regret, k=k, target=away.mean(1) - least)

    @staticmethod
    def _near_misses(evaluation: Evaluation, branches: Branches, compared: Compared) -> Iterator[Rows]:
        k, ends = branches.actions.shape[2], branches.frames[:, :, -1]
        for way, size in enumerate(branches.sizes, branches.count):
            pair = [RECORDED, way]
            counts = differ(ends[:, RECORDED], ends[:, way]).numpy()
            windows, dim = branches.windows[counts], f"{size:g}"
            fit = matched(
                compared.distance[counts][:, pair][:, :, pair, -1:], ~torch.eye(2, dtype=torch.bool)[..., None]
            )
            missed, moved = (x[1, counts, way, -1] for x in (compared.missed, compared.moved))
            yield evaluation.rows(NEAR, windows, fit[:, 0], k=k, dim=dim)
            yield evaluation.rows(NEAR_EFFECT, windows, missed, k=k, dim=dim, target=moved)


def identified(distance: Tensor, told: Tensor) -> Tensor:
    """How many of the branches' true futures are nearest to their own imagined ones, a share (N, F).

    Args:
        distance: (N, K, K, F) of what is imagined in branch i from the truth of branch j; a tie of n counts 1/n.
        told: (N, K, F) bool, which branches count; at least one in every step.
    """
    distance = distance.masked_fill(~told[:, :, None], torch.inf)
    nearest = (distance == distance.amin(1, keepdim=True)).float()
    won = nearest.diagonal(dim1=1, dim2=2).movedim(-1, 1) / nearest.sum(1)
    return torch.where(told, won, 0).sum(1) / told.sum(1)


def matched(distance: Tensor, telling: Tensor) -> Tensor:
    """How many pairs of imagined futures fit their true ones better as they are than swapped, a share (N, F); a tie is
    a half.

    With squared distances it is the sign of the imagined difference along the true one: neither how large it is counts
    nor what is wrong in both alike.

    Args:
        distance: (N, K, K, F) of what is imagined in branch i from the truth of branch j.
        telling: (N, K, K, F) bool, the pairs that count.
    """
    own = distance.diagonal(dim1=1, dim2=2).movedim(-1, 1)
    kept, swapped = own[:, :, None] + own[:, None], distance + distance.transpose(1, 2)
    won = (kept < swapped).float() + (kept == swapped).float() / 2
    won = torch.where((kept + swapped).isnan(), torch.nan, won)
    return torch.where(telling, won, 0).sum((1, 2)) / telling.expand_as(won).sum((1, 2))


def compare(evaluation: Evaluation, branches: Branches, probe: TrainedProbe) -> Compared:
    """Imagine every way as the planner does: all ways of a moment share its real context and its noise."""
    where, g = device(evaluation.compute), generator(evaluation.seed, "branches")
    context = evaluation.clips(branches.context).batch(branches.windows).x.float()
    actions = _for_model(evaluation, branches.actions)
    past = _for_model(evaluation, branches.past)
    noise = torch.randn(len(context), actions.shape[2], *context.shape[2:], generator=g)
    parts = []
    for some in torch.arange(len(context)).split(AT_ONCE):
        start = (x[some].to(where) for x in (context, past, actions, noise))
        true = torch.stack([evaluation.encode(frames.float() / 255) for frames in branches.frames[some].unbind(1)], 1)
        parts.append(_compared(evaluation, _imagined(evaluation, *start), true, probe))
    distance, moved, missed, positions = zip(*parts, strict=True)
    read = None if probe.absent else torch.cat(positions)
    return Compared(torch.cat(distance), torch.cat(moved, 1), torch.cat(missed, 1), read)


def _for_model(evaluation: Evaluation, actions: Tensor) -> Tensor:
    """Actions of the world as the model takes them: one from elsewhere may be normalised by other bounds."""
    ours, worlds = evaluation.corpus.action_spec, replace(evaluation.corpus, target=None).action_spec
    if ours == worlds:
        return actions
    return torch.from_numpy(ours.normalise(ours.convert(worlds.denormalise(actions.numpy()), worlds)))


def _imagined(evaluation: Evaluation, context: Tensor, past: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
    """Futures (N, K, F, h, w, C) of contexts (N, T, h, w, C) under actions (N, K, F, A), with noise (N, F, h, w, C)."""
    model, ways = evaluation.world_model, actions.shape[1]
    with torch.no_grad(), autocast(evaluation.compute):
        state = model.start(context, past).fork(ways)
        noise = noise.repeat_interleave(ways, 0)
        imagined = model.unroll(state, actions.flatten(0, 1), MEAN_PREDICTION, noise=noise)
    return imagined.float().cpu().unflatten(0, actions.shape[:2])


def _compared(
    evaluation: Evaluation, imagined: Tensor, true: Tensor, probe: TrainedProbe
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The fields of :class:`Compared`, of imagined and true latents (N, K, F, h, w, C)."""

    def size(x: Tensor) -> Tensor:
        return x.square().mean((-3, -2, -1))

    distance = torch.stack([size(imagined - true[:, [way]]) for way in range(true.shape[1])], 2)
    effects = [tuple(x - x[:, [way]] for x in (imagined, true)) for way in (STILL, RECORDED)]
    moved = torch.stack([size(real) for _, real in effects])
    missed = torch.stack([size(guess - real) for guess, real in effects])
    if probe.absent:
        return distance, moved, missed, None
    corpus = evaluation.corpus
    mean, std = StateTargets.of(corpus).moments(corpus.train)
    read = probe.apply(imagined.flatten(0, 2)[:, None], evaluation.compute) * std + mean
    return distance, moved, missed, 100 * read.unflatten(0, imagined.shape[:3]).unflatten(-1, (-1, 3))
