"""What knows nothing scores 0: every scored metric, through the study's own scale, for several ways to know nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from measured import Subject, exact, metric_infos, table
from point_world import AstrayWorldModel, PointState, PointWorldModel, write_corpus, write_latents
from rslwm.compute import ComputeConfig, generator
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.base import EPISODES, METRICS
from rslwm.evals.config import EvalConfig
from rslwm.evals.instructed import DIMS
from rslwm.evals.inverse_dynamics import InverseDynamicsConfig
from rslwm.evals.planning import PlanningConfig
from rslwm.evals.prediction import IdentificationConfig, OneStepConfig
from rslwm.evals.readout import ReadOutConfig
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.success import SuccessConfig, final_windows
from rslwm.plan.base import PlanConfig
from rslwm.verdict.bootstrap import Resampling
from rslwm.verdict.bootstrap import measure as condense
from rslwm.verdict.scale import Scale, find_scale, score

SCORED = [name for name, info in metric_infos().items() if info.scored and info.counts == EPISODES]
"""What counts policies has its own tests, of counts that are known: the point world has none."""
FAMILY = {info.name: name for name in METRICS for info in METRICS.get(name).infos}
CONFIG = EvalConfig(
    rollouts=RolloutsConfig(clips=60, future=4),
    action_identification=IdentificationConfig(windows=200),
    inverse_dynamics=InverseDynamicsConfig(windows=200, horizons=(1,)),
    one_step=OneStepConfig(windows=200),
    planning=PlanningConfig(plan=PlanConfig(candidates=24, iterations=3, elites=6), windows=100),
    readout=ReadOutConfig(windows=200),
    success=SuccessConfig(frames=7),
)
READINGS = {
    "inverse-1": 4, "inverse-pooled-1": 4, "goal": 4, "progress": 1, "state": 9, "geometry": 8, "success": 1,
    "success-instructed": DIMS,
}  # fmt: skip
"""Numbers that the probes predict."""
ERRORS = 3.0
"""Standard errors that a score may be away from 0 by chance."""


class Says(nn.Module):
    """A probe whose output doesn't depend on what it looks at: ``say`` of the number of rows."""

    def __init__(self, say: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.say = say

    def forward(self, z: Tensor) -> Tensor:
        return self.say(len(z))


class StillWorldModel(PointWorldModel):
    """Predicts that nothing happens, and shows it chequered: what decoding loses isn't ignorance."""

    def __init__(self) -> None:
        super().__init__(gain=0)

    def decode(self, z: Tensor) -> Tensor:
        frames = super().decode(z)
        chequered = torch.arange(frames.shape[-2])[:, None] + torch.arange(frames.shape[-2])
        return (frames + 0.15 * (chequered % 2)[..., None] - 0.075).clamp(0, 1)


class NoiseWorldModel(PointWorldModel):
    """Predicts noise, whatever was and whatever is done."""

    def rollout(self, context, actions, sampling, generator=None):  # type: ignore[no-untyped-def]
        future = actions.shape[1] - context.shape[1] + 1
        return torch.randn((len(context), future, *context.shape[2:]), generator=generator)

    def step(self, state: PointState, action, sampling, noise, following):  # type: ignore[no-untyped-def]
        return state, noise

    def unroll(self, state: PointState, actions, sampling, noise=None):  # type: ignore[no-untyped-def]
        return noise


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, TensorStore]:
    root = tmp_path_factory.mktemp("nothing")
    corpus = write_corpus(root, [bool(i % 2) for i in range(48)])
    return corpus, write_latents(corpus, root / "latents")


def evaluation_of(world: tuple[Corpus, TensorStore], model: PointWorldModel, seed: int = 0) -> Subject:
    """With the right probes, on true latents."""
    config = replace(CONFIG, seed=seed)
    return exact(*world, config, ComputeConfig(device="cpu", dtype="float32"), model)


def holds_still(world: tuple[Corpus, TensorStore], seed: int = 0) -> Subject:
    """Knows nothing of the future, but reads latents perfectly."""
    return evaluation_of(world, StillWorldModel(), seed)


def predicts_noise(world: tuple[Corpus, TensorStore], seed: int = 0) -> Subject:
    return evaluation_of(world, NoiseWorldModel(), seed)


def reads_constants(world: tuple[Corpus, TensorStore], seed: int = 0) -> Subject:
    """Nothing can be read from its latents: trained probes settle on what is right on average. Nor does it predict."""
    found = holds_still(world, seed)
    for name, out in READINGS.items():
        found.probes[name] = Says(lambda n, out=out: torch.zeros(n, out))
    return found


def reads_noise(world: tuple[Corpus, TensorStore], seed: int = 0) -> Subject:
    found, g = reads_constants(world, seed), generator(seed, "read")
    for name, out in READINGS.items():
        if name in ("state", "geometry"):
            continue
        found.probes[name] = Says(lambda n, out=out: torch.randn(n, out, generator=g))
    return found


def standing(metric: str, evaluation: Subject) -> tuple[float, float]:
    """Score and its standard error over episodes."""
    rows = table(FAMILY[metric], evaluation)
    resampling = Resampling.of(rows, 400, 0.95, seed=0)
    measurement = condense(rows, metric_infos()[metric], resampling)
    scale = find_scale(measurement, 0.0)
    assert isinstance(scale, Scale), scale
    with np.errstate(divide="ignore", invalid="ignore"):
        estimates = score(measurement, scale).estimates[:, 0]
    draws = estimates[1:][np.isfinite(estimates[1:])]  # of so few episodes, some have a floor of 1
    return float(estimates[0]), float(draws.std())


@pytest.mark.parametrize("metric", SCORED)
def test_nothing_read_and_nothing_predicted_is_a_score_of_0(metric: str, world: tuple[Corpus, TensorStore]) -> None:
    """Every scored metric, those of plug-ins too."""
    value, error = standing(metric, reads_constants(world))
    assert abs(value) <= ERRORS * error + 1e-4


OF_THE_FUTURE = [
    name for name in SCORED if metric_infos()[name].axis != "representation" or name.endswith("_generated")
]


@pytest.mark.parametrize("metric", OF_THE_FUTURE)
def test_a_future_that_stands_still_scores_0_however_well_it_is_read(
    metric: str, world: tuple[Corpus, TensorStore]
) -> None:
    value, error = standing(metric, holds_still(world))
    assert abs(value) <= ERRORS * error + 1e-4


class SeesItInTheContext(nn.Module):
    """Tells success, not always, from the first frame of a clip: the task was done before the rollout began."""

    def __init__(self, firsts: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.firsts, self.labels = firsts.flatten(1), labels
        self.doubts = torch.randn(len(labels), generator=torch.Generator().manual_seed(0))

    def forward(self, z: Tensor) -> Tensor:
        which = torch.cdist(z[:, 0].flatten(1), self.firsts).argmin(1)
        return (2 * self.labels[which] - 1 + self.doubts[which])[:, None]


def test_success_that_stands_in_the_context_is_no_merit_of_the_future(world: tuple[Corpus, TensorStore]) -> None:
    found = holds_still(world)
    clips = found.clips(CONFIG.success.frames)
    windows = final_windows(clips, found.corpus.test)
    labels = torch.tensor([float(bool(found.corpus.dataset.success[e])) for e in windows[:, 0]])
    probe = SeesItInTheContext(clips.batch(windows).x[:, 0].float(), labels)
    found.probes["success"] = probe
    assert standing("success_auc", found)[0] > 0.4
    assert standing("success_auc_generated", found)[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("metric", ["action_identification", "cem_error", "idm_r_generated", "success_auc_generated"])
def test_predictions_of_noise_score_0(metric: str, world: tuple[Corpus, TensorStore]) -> None:
    """Noise is worse than nothing where squared errors count: it isn't asked of images and positions."""
    value, error = standing(metric, predicts_noise(world))
    assert abs(value) <= ERRORS * error + 1e-4


@pytest.mark.parametrize(
    "metric",
    ["idm_r", "idm_r_generated", "progress_r", "success_auc", "success_auc_generated", "success_instructed_auc"],
)
def test_readings_of_noise_score_0(metric: str, world: tuple[Corpus, TensorStore]) -> None:
    value, error = standing(metric, reads_noise(world))
    assert abs(value) <= ERRORS * error + 1e-4


@pytest.mark.parametrize("planner", ["cem", "mppi"])
@pytest.mark.parametrize("model", [holds_still, predicts_noise])
def test_a_search_without_signal_scores_0_over_many_draws(
    planner: str, model: Callable[..., Subject], world: tuple[Corpus, TensorStore]
) -> None:
    scores = []
    for seed in range(8):
        found = model(world, seed)
        found.set("planning", plan=replace(found.config.planning.plan, planner=planner))
        scores.append(standing("cem_error", found)[0])
    assert abs(np.mean(scores)) <= ERRORS * np.std(scores, ddof=1) / np.sqrt(len(scores))


ERRING = {"trust_auc": AstrayWorldModel()}
"""What can be measured only of a model that goes wrong at times."""


@pytest.mark.parametrize("metric", SCORED)
def test_what_knows_everything_scores_1(metric: str, world: tuple[Corpus, TensorStore]) -> None:
    """The scale isn't held at 0 by a floor that nothing could leave."""
    value, _ = standing(metric, evaluation_of(world, ERRING.get(metric) or PointWorldModel()))
    assert value > 0.8


def test_every_scored_metric_says_what_knows_nothing(tmp_path: Path) -> None:
    for name in SCORED:
        assert len(metric_infos()[name].floor) > 5, name
