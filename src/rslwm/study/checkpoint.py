"""World models as what a study leaves behind: copied out of it, and measured on any data by their path."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from rslwm.compute import ComputeConfig, device, measure_peak
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.fingerprint import files_key
from rslwm.data.seen import REMEDY, unseen
from rslwm.data.sources.opening import located
from rslwm.data.store import TensorStore
from rslwm.evals.evaluation import EvalConfig, Label
from rslwm.evals.rows import Rows
from rslwm.latents.space import LatentSpace
from rslwm.latents.store import encode_episodes, to_float
from rslwm.model.dit import size_of
from rslwm.model.world_model import WorldModel
from rslwm.run.runner import Runner
from rslwm.run.stage import Stage, Workspace, versioned
from rslwm.serialisation import OPERATIONAL, ConfigError
from rslwm.study import stages
from rslwm.study.config import StudyConfig
from rslwm.study.encoding import latents_meta
from rslwm.study.graph import Builder, SpaceStages, Study, evaluate_stage
from rslwm.study.measuring import Measured
from rslwm.study.stored import SPACE, STORE, keep, too_wide
from rslwm.train.loop import Progress
from rslwm.types import DataError, Unavailable

CHECKPOINT = "checkpoint"


def train_world_models(config: StudyConfig, out: Path, jobs: int = 0) -> list[Path]:
    """Train what is missing for the configuration's world models and copy them to ``out/checkpoints``; what a study
    below ``out`` has trained already is taken from there.

    Raises:
        StageFailed: a stage failed; see :meth:`rslwm.run.runner.Runner.run`.
        ConfigError: the configuration can't be run.
    """
    study, runner = Builder(config).build(), Runner(out, jobs, config.compute.threads)
    study.check(runner.finished)
    with runner.alone():
        measure_peak(config.compute)
        runner.run([space.world_model for space in study.spaces])
        return export_world_models(study, runner)


def export_world_models(study: Study, runner: Runner) -> list[Path]:
    """Copy the world models of a finished run to ``checkpoints`` in its folder, under the names of their latent spaces,
    and of their sizes where the study has several."""
    with runner.alone():
        return [
            copy_folder(
                runner.folder(space.world_model) / CHECKPOINT,
                runner.root / "checkpoints" / _folder_name(space, study.config, space.size),
            )
            for space in study.spaces
        ]


def train_spaces(config: StudyConfig, out: Path, jobs: int = 0) -> list[Path]:
    """Like :func:`train_world_models`, but stops at the latent spaces with their pixel decoders: ``out/spaces``."""
    study, runner = Builder(replace(config, sizes=())).build(), Runner(out, jobs, config.compute.threads)
    study.check(runner.finished)
    with runner.alone():
        measure_peak(config.compute)
        folders = runner.run([space.decoder for space in study.spaces])
        return [
            copy_folder(folders[space.decoder] / SPACE, runner.root / "spaces" / _folder_name(space, config))
            for space in study.spaces
        ]


def _folder_name(space: SpaceStages, config: StudyConfig, size: str = "") -> str:
    parts = [space.entry.name, size, f"seed{space.seed}" if config.seeds > 1 else ""]
    return "-".join(filter(None, parts))


def copy_folder(source: Path, target: Path) -> Path:
    """Replace ``target`` by a copy of ``source``; a kill leaves the old one, the new one, or none."""
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source, new)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    return target


# ----------------------------------------------------------------------------------------------- a checkpoint on data


def clip_settings(model: WorldModel, checkpoint: Path, uri: str = "", camera: str = "") -> DataConfig:
    """The data configuration under which a checkpoint was trained, with the episodes of ``uri`` and the cameras of
    ``camera`` if they are given.

    Raises:
        DataError: the checkpoint doesn't say.
    """
    if model.data is None:
        raise DataError(f"{checkpoint / 'config.yaml'}: field 'data' is missing, so nobody knows the frame skip")
    return replace(model.data, uri=uri or model.data.uri, camera=camera or model.data.camera)


def _require_frames(data: DataConfig, model: WorldModel) -> None:
    """Raises :class:`ConfigError` if these data don't have the frames that a model was trained on."""
    if data.image_size != model.space.config.image_size:
        raise ConfigError(f"data.image_size is {data.image_size}; the checkpoint's is {model.space.config.image_size}")
    if data.views != model.space.config.views:
        raise ConfigError(
            f"data.camera {data.camera!r} is {data.views} camera(s), but the checkpoint was trained on "
            f"{model.space.config.views}; name as many, in the same order"
        )


def run_folder(checkpoint: Path, otherwise: Path) -> Path:
    """The run that a checkpoint was exported from, with its episodes; ``otherwise`` if the checkpoint has moved."""
    root = checkpoint.absolute().parents[1]
    return root if (root / "stages").is_dir() else otherwise


def open_corpus(data: DataConfig, model: WorldModel, out: Path, jobs: int = 0) -> Corpus:
    """The episodes as a model sees them, recorded, imported and decoded below ``out`` where that isn't done yet.

    Raises:
        ConfigError: they have other frames than the model's.
        StageFailed: the data can't be read.
        DataError: their actions mean something else than the model's.
    """
    _require_frames(data, model)
    builder = Builder(StudyConfig(data=data))
    folders = Runner(out, jobs).run([builder.frames])
    corpus = Corpus(located(folders[builder.data], data), TensorStore(folders[builder.frames]), data)
    return corpus.for_model(model.action_spec)


@dataclass(frozen=True)
class CheckpointStage:
    path: str = field(metadata=OPERATIONAL)
    files: str
    """The content of the folder."""


@versioned(1)
def make_checkpoint(work: Workspace) -> None:
    """Take a copy, so that rows stay next to the weights that they belong to."""
    copy_folder(Path(work.config.path), work.out / CHECKPOINT)


@dataclass(frozen=True)
class EncodeStage:
    data: DataConfig
    compute: ComputeConfig
    streamed: bool = False
    """Latents aren't stored."""


@versioned(1)
def make_encoded(work: Workspace) -> None:
    """Encode every episode with the checkpoint's space. Inputs: data, frames, checkpoint."""
    config: EncodeStage = work.config
    data, frames, checkpoint = work.inputs
    corpus = Corpus(located(data, config.data), TensorStore(frames), config.data)
    model = WorldModel.load(checkpoint / CHECKPOINT)
    corpus.for_model(model.action_spec)
    store = work.out / STORE
    if keep(store, model.space, corpus.frames, config.streamed):
        encode(model.space, corpus.frames, store, config.compute, work.progress)
    else:
        model.space.save(work.out / SPACE)


def encode(
    space: LatentSpace,
    frames: TensorStore,
    root: Path,
    compute: ComputeConfig,
    progress: Progress = lambda done, total, message: None,
) -> TensorStore:
    """Normalised latents of every episode of a store of frames; resumes where it was killed."""
    space = space.to(device(compute))

    def normalised(stored: Tensor) -> Tensor:
        return space.encode(to_float(stored))

    return encode_episodes(normalised, frames, root, latents_meta(space, frames), compute, progress)


def measure(
    checkpoint: Path,
    data: DataConfig,
    evaluation: EvalConfig,
    compute: ComputeConfig,
    out: Path,
    jobs: int = 0,
    stream_above_kb: float = StudyConfig.stream_above_kb,
    seen: bool = False,
) -> Measured:
    """Rows of one checkpoint on any data, as a study would measure them: probes are trained on the training episodes,
    everything is measured on the held-out ones. Also says which metrics the data can't give, and which failed.

    Args:
        seen: also on episodes that the checkpoint was trained on; without it they are left out, whatever side of the
            split of these data they are on.

    Raises:
        StageFailed: a stage failed; see :meth:`rslwm.run.runner.Runner.run`.
        DataError: the checkpoint can't be loaded, or was trained on all that is held out.
    """
    model = WorldModel.load(checkpoint)
    corpus = open_corpus(data, model, out, jobs)
    known = _seen(model, corpus)
    if not seen:
        _require_unseen(known, model, corpus, str(checkpoint))
    builder = Builder(StudyConfig(data=data, evaluation=evaluation, compute=compute))
    common, name = (builder.data, builder.frames), str(checkpoint)
    copied = CheckpointStage(str(checkpoint.absolute()), files_key(checkpoint))
    model_stage = Stage("checkpoint", name, make_checkpoint, copied)
    compute = builder.compute
    encoded = EncodeStage(data, compute, too_wide(model.space.spec, stream_above_kb))
    latents = Stage("encoded", name, make_encoded, encoded, (*common, model_stage), cost=15.0)
    probe = stages.ProbesStage(evaluation.probe, data, compute, seed=0, actions=model.action_spec)
    probes = Stage("probes", name, stages.make_probes, probe, (*common, latents), cost=30.0)
    label = Label(model.space.spec.name, model.space.spec.family, size_of(model.config.dit), seed=0)
    evaluate = replace(evaluate_stage(label, evaluation, data, compute), left_out=() if seen else known)
    rows = Stage("rows", name, stages.make_rows, evaluate, (*common, latents, probes, model_stage), cost=20.0)
    runner = Runner(out, jobs, compute.threads)
    with runner.alone():
        retry_failed([rows], runner)
        folder = runner.run([rows])[rows]
        facts, table = stages.read_facts(folder), Rows.load(folder / "rows.parquet")
    unavailable, failed = ([Unavailable(**why) for why in facts[kind]] for kind in ("unavailable", "failed"))
    return Measured([table], unavailable, failed, known)


def _seen(model: WorldModel, corpus: Corpus) -> tuple[str, ...]:
    """Ids of the held-out episodes that a model was trained on, as far as it knows."""
    seen = model.seen.among(corpus) if model.seen else set()
    return tuple(corpus.dataset.ids[i] for i in corpus.test if i in seen)


def _require_unseen(known: tuple[str, ...], model: WorldModel, corpus: Corpus, who: str) -> None:
    """Raises :class:`DataError` if a model was trained on all that is held out, or doesn't say on what."""
    unseen(corpus, model.seen, model.fingerprint, who)
    if len(known) == len(corpus.test):
        raise DataError(
            f"{who} was trained on all {len(known)} episodes that data.split_seed and data.test_fraction hold out of "
            f"{corpus.dataset.root}. {REMEDY}."
        )


def retry_failed(rows: Iterable[Stage], runner: Runner) -> None:
    """Let finished stages try the metrics again that failed in them; the others' rows are kept."""
    for stage in rows:
        if runner.finished(stage) and stages.read_facts(runner.folder(stage))["failed"]:
            runner.reopen(stage)
