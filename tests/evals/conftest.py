"""An evaluation of the point world: the right dynamics, the right probes, real windows."""

from pathlib import Path

import pytest

from measured import Subject, exact
from point_world import write_corpus
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.config import EvalConfig
from rslwm.evals.inverse_dynamics import InverseDynamicsConfig
from rslwm.evals.planning import PlanningConfig
from rslwm.evals.prediction import IdentificationConfig, OneStepConfig
from rslwm.evals.probe import ProbeConfig
from rslwm.evals.readout import ReadOutConfig
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.success import SuccessConfig
from rslwm.optim import OptimConfig
from rslwm.plan.base import PlanConfig

CONFIG = EvalConfig(
    rollouts=RolloutsConfig(clips=6, future=4),
    probe=ProbeConfig(width=8, optim=OptimConfig(steps=40, batch_size=32, lr=1e-2, warmup=5)),
    action_identification=IdentificationConfig(windows=20),
    inverse_dynamics=InverseDynamicsConfig(windows=20, horizons=(1,)),
    one_step=OneStepConfig(windows=20),
    planning=PlanningConfig(plan=PlanConfig(candidates=64, iterations=5, elites=8), windows=16),
    readout=ReadOutConfig(windows=20),
    success=SuccessConfig(frames=7),  # 13 recorded steps; the shortest episode has 14
)


@pytest.fixture
def evaluation(corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig) -> Subject:
    """Everything as good as it can be; tests plant what is wrong."""
    return exact(corpus, point_latents, CONFIG, compute)


@pytest.fixture
def unlabelled(tmp_path: Path) -> Corpus:
    """The same world, but nobody said what succeeded."""
    return write_corpus(tmp_path, [None] * 4)
