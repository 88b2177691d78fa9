"""An evaluation of the point world: the right dynamics, the right probes, real windows."""

from pathlib import Path

import pytest
from rslwm.evals.probes import Probes

from point_world import PointWorldModel, ReadAction, ReadState, ReadSuccess, write_corpus
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.evaluation import EvalConfig, Evaluation, Label
from rslwm.evals.probe import ProbeConfig
from rslwm.optim import OptimConfig
from rslwm.plan.base import PlanConfig

CONFIG = EvalConfig(
    clips=6,
    future=4,
    encoder_windows=20,
    one_step_windows=20,
    plan=PlanConfig(windows=16, candidates=64, iterations=5, elites=8),
    probe=ProbeConfig(
        width=8,
        horizons=(1,),
        success_frames=7,  # 13 recorded steps; the shortest episode has 14
        optim=OptimConfig(steps=40, batch_size=32, lr=1e-2, warmup=5),
    ),
)


@pytest.fixture
def evaluation(corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig) -> Evaluation:
    """Everything as good as it can be; tests plant what is wrong."""
    probes = Probes(corpus, point_latents, CONFIG.probe)
    probes.modules = {"inverse-1": ReadAction(), "state": ReadState(probes.mean, probes.std), "success": ReadSuccess()}
    label = Label("point", "floor", "exact", 0)
    return Evaluation(corpus, point_latents, PointWorldModel(), probes, CONFIG, compute, label)


@pytest.fixture
def unlabelled(tmp_path: Path) -> Corpus:
    """The same world, but nobody said what succeeded."""
    return write_corpus(tmp_path, [None] * 4)
