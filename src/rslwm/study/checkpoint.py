"""World models as what a study leaves behind: copied out of it, and measured on any data by their path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rslwm.compute import measure_peak
from rslwm.data.config import DataConfig
from rslwm.data.corpus import REMEDY, Corpus, unseen
from rslwm.evals.evaluation import Label
from rslwm.latents.stored import too_wide
from rslwm.model.dit import size_of
from rslwm.model.world_model import WorldModel
from rslwm.run.runner import Runner
from rslwm.run.stage import Stage
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.study.estimate import demanding
from rslwm.study.graph import Study
from rslwm.study.stages.base import DataStage, FramesStage
from rslwm.study.stages.decoder import DecoderStage
from rslwm.study.stages.latents import SPACE, SpaceStage
from rslwm.study.stages.metric import Measured
from rslwm.study.stages.world_model import CHECKPOINT, CheckpointSpace, CheckpointStage, WorldModelStage, copy_folder
from rslwm.study.subjects import FromFolder, Subject
from rslwm.types import DataError

EXPORTED = {WorldModelStage: (CHECKPOINT, "checkpoints"), DecoderStage: (SPACE, "spaces")}
"""What is copied out of a stage's folder, and to where in that of the run."""


def train_world_models(
    config: StudyConfig, out: Path, jobs: int = 0, executor: str = "local", cache: str = ""
) -> list[Path]:
    """Train what is missing for the configuration's world models and copy them to ``out/checkpoints``; what a study
    below ``out`` has trained already is taken from there.

    Raises:
        StageFailed: a stage failed; see :meth:`rslwm.run.runner.Runner.run`.
        ConfigError: the configuration can't be run.
    """
    return _train(Study(config), WorldModelStage, out, jobs, executor, cache)


def train_spaces(config: StudyConfig, out: Path, jobs: int = 0, executor: str = "local", cache: str = "") -> list[Path]:
    """Like :func:`train_world_models`, but stops at the latent spaces with their pixel decoders: ``out/spaces``. Raises
    :class:`ConfigError`, too, if one is trained already."""
    study = Study(replace(config, sizes=()))
    if there := [variant.entry.reference for variant in study.compared if isinstance(variant, FromFolder)]:
        raise ConfigError(f"latents: {there[0]} is trained already; leave it out")
    return _train(study, DecoderStage, out, jobs, executor, cache)


def running(study: Study, out: Path, jobs: int, executor: str, cache: str) -> Runner:
    """The runner of a study's stages."""
    return Runner(
        out,
        jobs,
        study.compute.threads,
        executor=executor,
        demand=demanding(study),
        cache=cache,
        limit=60 * study.compute.stage_minutes,
    )


def _train(study: Study, stage: type[Stage], out: Path, jobs: int, executor: str, cache: str) -> list[Path]:
    runner = running(study, out, jobs, executor, cache)
    study.check(runner.finished)
    with runner.alone():
        if not runner.elsewhere:
            measure_peak(study.compute)
        runner.run([variant.pull(stage) for variant in study.compared])
        return export(study, runner, stage)


def export(study: Study, runner: Runner, stage: type[Stage]) -> list[Path]:
    """Copy what this stage of a finished run made to a folder of its own, under the names of the latent spaces, and of
    their sizes where the study has several."""
    part, where = EXPORTED[stage]
    return [copy_folder(runner.folder(v.pull(stage)) / part, runner.root / where / v.folder) for v in study.compared]


# ----------------------------------------------------------------------------------------------- a checkpoint on data


def clip_settings(model: WorldModel, checkpoint: Path, uri: str = "", camera: str = "") -> DataConfig:
    """The data configuration under which a checkpoint was trained, with the episodes of ``uri`` and the cameras of
    ``camera`` if they are given; :class:`DataError` if the checkpoint doesn't say."""
    if model.data is None:
        raise DataError(f"{checkpoint / 'config.yaml'}: field 'data' is missing, so nobody knows the frame skip")
    return replace(model.data, uri=uri or model.data.uri, camera=camera or model.data.camera)


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
    space = model.space.config
    if data.image_size != space.image_size:
        raise ConfigError(f"data.image_size is {data.image_size}; the checkpoint's is {space.image_size}")
    if data.views != space.views:
        raise ConfigError(
            f"data.camera {data.camera!r} is {data.views} camera(s), but the checkpoint was trained on {space.views}; "
            "name as many, in the same order"
        )
    episodes, runner = Subject(study=Study(StudyConfig(data=data))), Runner(out, jobs)
    runner.run([episodes.pull(FramesStage)])
    work = runner.workspace
    corpus = Corpus(work.open(episodes.pull(DataStage)), work.open(episodes.pull(FramesStage)), data)
    return corpus.for_model(model.action_spec)


@dataclass(frozen=True, eq=False, kw_only=True)
class Elsewhere(Subject):
    """A world model that was trained elsewhere."""

    path: Path
    model: WorldModel

    @property
    def label(self) -> str:
        return str(self.path)

    @property
    def row(self) -> Label:
        spec = self.model.space.spec
        return Label(spec.name, spec.family, size_of(self.model.config.dit), self.seed)

    @property
    def streamed(self) -> bool:
        return too_wide(self.model.space.spec, self.study.config.stream_above_kb)


def evaluate(
    checkpoint: Path, config: StudyConfig, out: Path, jobs: int = 0, seen: bool = False
) -> tuple[Measured, tuple[str, ...]]:
    """Rows of one checkpoint on the data of a configuration, as a study would measure them, and the ids of the held-out
    episodes that it was trained on. Probes are trained on the training episodes, everything is measured on held-out
    ones; unless ``seen``, on none that the checkpoint was trained on.

    Raises:
        StageFailed: a stage failed; see :meth:`rslwm.run.runner.Runner.run`.
        DataError: the checkpoint can't be loaded, or was trained on all that is held out.
    """
    model, study = WorldModel.load(checkpoint), Study(config)
    known = _seen(model, open_corpus(config.data, model, out, jobs), seen, str(checkpoint))
    copy = CheckpointStage.of_folder(checkpoint, study.compute)
    subject = Elsewhere(
        study=study,
        pulled={WorldModelStage: copy, SpaceStage: CheckpointSpace(label=copy.label, checkpoint=copy)},
        actions=model.action_spec,
        left_out=() if seen else known,
        path=checkpoint,
        model=model,
    )
    runner, stages = Runner(out, jobs, config.compute.threads), [*subject.metrics.values()]
    with runner.alone():
        return Measured.of(stages, runner, runner.run(stages)), known


def _seen(model: WorldModel, corpus: Corpus, allowed: bool, who: str) -> tuple[str, ...]:
    """Ids of the held-out episodes that a model was trained on, as far as it knows; unless that is ``allowed``,
    :class:`DataError` if those are all, or it doesn't say."""
    seen = model.seen.among(corpus) if model.seen else set()
    known = tuple(corpus.dataset.ids[i] for i in corpus.test if i in seen)
    if allowed:
        return known
    unseen(corpus, model.seen, model.fingerprint, who)
    if len(known) == len(corpus.test):
        raise DataError(
            f"{who} was trained on all {len(known)} episodes that data.split_seed and data.test_fraction hold out of "
            f"{corpus.dataset.root}. {REMEDY}."
        )
    return known
