"""Studies at sizes where nothing is learned, and their stages run in this process."""

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from here import HERE
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.evals.config import EvalConfig
from rslwm.evals.inverse_dynamics import InverseDynamicsConfig
from rslwm.evals.planning import PlanningConfig
from rslwm.evals.prediction import IdentificationConfig, OneStepConfig
from rslwm.evals.probe import ProbeConfig
from rslwm.evals.readout import ReadOutConfig
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.evals.success import SuccessConfig
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.plan.base import PlanConfig
from rslwm.run.runner import Runner
from rslwm.run.stage import RECORD, Stage, Workspace, closure
from rslwm.study.config import StudyConfig
from rslwm.study.subjects import Variant

OPTIM = OptimConfig(steps=3, batch_size=8, warmup=1)


def measuring(optim: OptimConfig = OPTIM, sampling: SamplingConfig | None = None) -> EvalConfig:
    """Everything, on a handful of windows."""
    sampling = sampling or SamplingConfig(steps=2)
    return EvalConfig(
        rollouts=RolloutsConfig(clips=3, future=2, sampling=sampling),
        probe=ProbeConfig(width=8, optim=optim),
        action_identification=IdentificationConfig(windows=6),
        inverse_dynamics=InverseDynamicsConfig(windows=6, horizons=(1,)),
        one_step=OneStepConfig(windows=6),
        planning=PlanningConfig(plan=PlanConfig(candidates=4, iterations=1, elites=2), windows=2),
        readout=ReadOutConfig(windows=6),
        success=SuccessConfig(frames=7),
    )


def tiny(corpus: Corpus, *latents: str) -> StudyConfig:
    return StudyConfig(
        latents=latents,
        data=corpus.config,
        encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4, min_rank=1.0, optim=OPTIM),
        adapter=AdapterConfig(heads=2, optim=OPTIM),
        decoder=DecoderConfig(width=16, optim=OPTIM),
        world_model=WorldModelConfig(
            dit=DiTConfig(width=24, depth=1, heads=2, max_frames=3), optim=replace(OPTIM, ema=0.9)
        ),
        evaluation=measuring(),
        compute=ComputeConfig(device="cpu", dtype="float32"),
    )


def run(stages: Iterable[Stage[Any]], root: Path) -> Workspace:
    """What these stages made, and all that they need."""
    for stage in closure(stages):
        folder = Workspace(root, root).folder(stage)
        if not folder.exists():
            folder.mkdir(parents=True)
            stage.run(Workspace(folder, root))
    return Workspace(root, root)


def here(root: Path) -> Runner:
    """A runner whose stages run in this process."""
    return Runner(root, 1, console=Console(file=io.StringIO()), executor=HERE)


def made(root: Path) -> dict[str, int]:
    """The folders of a run's stages, with the time at which each was finished."""
    return {record.parent.name: record.stat().st_mtime_ns for record in root.glob(f"stages/*/{RECORD}")}


def rows_of(variant: Variant, work: Workspace) -> Rows:
    return Rows.concatenate([work.open(stage) for stage in variant.metrics.values()])
