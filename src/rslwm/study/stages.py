"""The stages of a study, from episodes to rows. Each is a function of a workspace: its config and inputs' folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import ComputeConfig, device, generator, seeded
from rslwm.data.check import require_sound
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.frames import build_frame_store
from rslwm.data.seen import SeenEpisodes
from rslwm.data.sources.opening import located, open_source
from rslwm.data.store import TensorStore
from rslwm.evals.evaluation import EvalConfig, Evaluation, Label
from rslwm.evals.grid_probe import ProbeConfig
from rslwm.evals.probes import Probes
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import Encoder
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig, open_decoder
from rslwm.latents.store import encode_episodes, to_float
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.run.stage import Workspace, versioned
from rslwm.study.measuring import measure_each
from rslwm.study.stored import SPACE, STORE, keep, open_features, open_latents
from rslwm.tensors import load_weights, write_tensors
from rslwm.train.latents import budget, sample_frames, train_adapter, train_decoder, train_encoder
from rslwm.train.normaliser import SAMPLE, fit_normaliser
from rslwm.train.transfer import start_from
from rslwm.train.world_model import train_world_model
from rslwm.types import ActionSpec, DataError

FACTS = "facts.json"
METRIC_ROWS = "metrics"


def _write_facts(work: Workspace, **facts: Any) -> None:
    (work.out / FACTS).write_text(json.dumps(facts, indent=1))


def read_facts(folder: Path) -> dict[str, Any]:
    """What a finished stage says of its result."""
    return json.loads((folder / FACTS).read_text())


# ---------------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class DataStage:
    data: DataConfig
    source: str
    """What determines the episodes beside that, see :meth:`rslwm.data.sources.base.Source.key`."""


@versioned(1)
def make_data(work: Workspace) -> None:
    """Record, import or just find the episodes, and refuse faulty ones; the facts say where they are."""
    source = open_source(work.config.data)
    dataset = source.open(work.out, work.progress)
    require_sound(dataset)
    _write_facts(
        work,
        **source.location(dataset, work.out),
        uri=source.config.uri,
        fingerprint=dataset.fingerprint,
        episodes=len(dataset),
        frames=int(dataset.lengths.sum()),
        labelled=sum(label is not None for label in dataset.success),
        successes=sum(label is True for label in dataset.success),
        cameras=dataset.cameras,
        instructions=len(set(dataset.instructions)),
        left_out=dataset.left_out,
    )


@versioned(1)
def make_frames(work: Workspace) -> None:
    """Decode and resize every frame of every configured camera once."""
    config: DataConfig = work.config
    dataset = located(work.inputs[0], config)
    build_frame_store(dataset, config.camera, config.image_size, work.out, work.progress)


def _corpus(data: Path, frames: Path, config: DataConfig) -> Corpus:
    return Corpus(located(data, config), TensorStore(frames), config)


# ------------------------------------------------------------------------------------------------------- latent spaces


@dataclass(frozen=True)
class EncoderStage:
    space: SpaceConfig
    data: DataConfig
    compute: ComputeConfig
    seed: int
    source: str = ""
    streamed: bool = False
    """Features aren't stored."""


@versioned(1)
def make_encoder(work: Workspace) -> None:
    """Train an encoder, or look at a frozen one. Inputs: data, frames and, for some, a teacher's features."""
    config: EncoderStage = work.config
    corpus = _corpus(work.inputs[0], work.inputs[1], config.data)
    teacher = work.inputs[2:]
    features = open_features(teacher[0], corpus.frames, config.compute) if teacher else None
    # By the name alone: where a plug-in's file lies must not change its initial weights.
    with seeded(config.seed, f"encoder weights {Path(config.space.reference).name}"):
        encoder = LatentSpace(replace(config.space, channels=0)).encoder
    trained = train_encoder(encoder, corpus, config.seed, work.out, config.compute, work.progress, features)
    write_tensors(encoder.state_dict(), work.out / "encoder.safetensors")
    flops = _flops_per_frame(encoder, config)
    facts: dict[str, Any] = {"parameters": encoder.spec.parameters, "flops_per_frame": flops}
    if trained:
        frames = budget(config.space.encoder.optim)
        facts |= {
            "frames_seen": frames,
            "training_flops": trained.flops_per_step * trained.steps,
            "training_seconds": trained.seconds,
            "terms": trained.terms,
        }
    _write_facts(work, **facts)


def _flops_per_frame(encoder: Encoder, config: EncoderStage) -> float:
    size = config.space.image_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder.encode(torch.zeros(config.space.views, 1, size, size, 3, device=device(config.compute)))
    return float(counter.get_total_flops())


def _native(space: SpaceConfig, encoder: Path, compute: ComputeConfig) -> LatentSpace:
    """The native space with a trained encoder's weights."""
    native = LatentSpace(replace(space, channels=0))
    load_weights(native.encoder, encoder / "encoder.safetensors")
    return native.to(device(compute)).eval()


@versioned(1)
def make_features(work: Workspace) -> None:
    """Native features of every frame, not normalised. Inputs: frames, encoder."""
    config: EncoderStage = work.config
    frames, native = TensorStore(work.inputs[0]), _native(config.space, work.inputs[1], config.compute)
    if not keep(work.out, native, frames, config.streamed):
        native.save(work.out / SPACE)
        return
    meta = {"features of": work.inputs[1].name, "preprocessing": native.spec.preprocessing}

    def encode(stored: torch.Tensor) -> torch.Tensor:
        return native.features(to_float(stored))

    encode_episodes(encode, frames, work.out, meta, config.compute, work.progress)


@dataclass(frozen=True)
class AdapterStage:
    adapter: AdapterConfig
    channels: int
    data: DataConfig
    compute: ComputeConfig
    seed: int


@versioned(1)
def make_adapter(work: Workspace) -> None:
    """Train or fit an adapter. Inputs: data, frames, features."""
    config: AdapterStage = work.config
    corpus = _corpus(work.inputs[0], work.inputs[1], config.data)
    adapter, trained = train_adapter(
        corpus,
        open_features(work.inputs[2], corpus.frames, config.compute),
        config.channels,
        config.adapter,
        config.seed,
        work.out,
        config.compute,
        work.progress,
    )
    write_tensors(adapter.state_dict(), work.out / "adapter.safetensors")
    _write_facts(work, training_seconds=trained.seconds, terms=trained.terms)


@dataclass(frozen=True)
class LatentsStage:
    space: SpaceConfig
    data: DataConfig
    compute: ComputeConfig
    streamed: bool = False
    """Latents aren't stored."""


@versioned(1)
def make_latents(work: Workspace) -> None:
    """Fit the normaliser, encode everything. Inputs: data, frames, encoder; for an adapted space adapter and features.

    An adapted space is encoded from the native features.
    """
    config: LatentsStage = work.config
    data, frames, encoder, *adapted = work.inputs
    corpus = _corpus(data, frames, config.data)
    space = LatentSpace(config.space)
    load_weights(space.encoder, encoder / "encoder.safetensors")
    if adapted:
        assert space.adapter is not None
        load_weights(space.adapter, adapted[0] / "adapter.safetensors")
    space = space.to(device(config.compute)).eval()
    fit_normaliser(space, sample_frames(corpus, corpus.train, SAMPLE // corpus.views), config.compute)
    space.save(work.out / SPACE)
    store = work.out / STORE
    if not keep(store, space, corpus.frames, config.streamed):
        return
    meta = {"latents of": encoder.name, "adapter": adapted[0].name if adapted else "", **space.spec.to_dict()}

    def from_features(features: torch.Tensor) -> torch.Tensor:
        return space.normaliser(space.compress(features.float()))

    def from_frames(stored: torch.Tensor) -> torch.Tensor:
        return space.encode(to_float(stored))

    if adapted:
        features = open_features(adapted[1], corpus.frames, config.compute)
        encode_episodes(from_features, features, store, meta, config.compute, work.progress)
    else:
        encode_episodes(from_frames, corpus.frames, store, meta, config.compute, work.progress)


@dataclass(frozen=True)
class DecoderStage:
    decoder: DecoderConfig
    data: DataConfig
    compute: ComputeConfig
    seed: int


@versioned(1)
def make_decoder(work: Workspace) -> None:
    """Train the pixel decoder and complete the space with it. Inputs: data, frames, latents."""
    config: DecoderStage = work.config
    corpus = _corpus(work.inputs[0], work.inputs[1], config.data)
    space = LatentSpace.load(work.inputs[2] / SPACE)
    with seeded(config.seed, "decoder weights"):
        decoder = open_decoder(config.decoder, space.view_spec, config.data.image_size)
    latents = open_latents(work.inputs[2], corpus.frames, config.compute)
    trained = train_decoder(
        corpus, latents, decoder, config.decoder, config.seed, work.out, config.compute, work.progress
    )
    space.with_decoder(decoder.cpu()).save(work.out / SPACE)
    _write_facts(work, training_seconds=trained.seconds, terms=trained.terms)


@versioned(1)
def take_own_decoder(work: Workspace) -> None:
    """Complete a space with its encoder's own decoder. Input: latents."""
    LatentSpace.load(work.inputs[0] / SPACE).with_own_decoder().save(work.out / SPACE)
    _write_facts(work, training_seconds=0.0, terms={})


@versioned(1)
def share_decoder(work: Workspace) -> None:
    """Complete a native space with the pixels of its compressed twin. Inputs: latents, the twin's decoder."""
    native, twin = (LatentSpace.load(folder / SPACE) for folder in work.inputs)
    native.with_decoder_of(twin).save(work.out / SPACE)
    _write_facts(work, **read_facts(work.inputs[1]))


# ------------------------------------------------------------------------------------------------ models and measuring


@dataclass(frozen=True)
class WorldModelStage:
    world_model: WorldModelConfig
    data: DataConfig
    compute: ComputeConfig
    seed: int
    init: str = ""
    """Changes when the files of the checkpoint do that the weights start from."""


@versioned(1)
def make_world_model(work: Workspace) -> None:
    """Train a world model. Inputs: data, frames, latents, decoder."""
    config: WorldModelStage = work.config
    data, frames, latents, decoder = work.inputs
    corpus = _corpus(data, frames, config.data)
    space = LatentSpace.load(decoder / SPACE)
    weights = generator(config.seed, "world model weights")
    fingerprint, seen = corpus.dataset.fingerprint, _seen_before(config.world_model.init, corpus)
    model = WorldModel(space, corpus.action_spec, config.world_model, weights, fingerprint, config.data)
    start = start_from(Path(config.world_model.init), model) if config.world_model.init else "random weights"
    print(f"starts from {start}")
    store = open_latents(latents, corpus.frames, config.compute)
    trained = train_world_model(model, corpus, store, config.seed, work.out, config.compute, work.progress)
    model.seen = SeenEpisodes.of(corpus, seen)
    model.cpu().save(work.out / "checkpoint")
    _write_facts(
        work,
        parameters=sum(p.numel() for p in model.dit.parameters()),
        training_seconds=trained.seconds,
        training_flops=trained.flops_per_step * trained.steps,
        terms=trained.terms,
        start=start,
    )


def _seen_before(init: str, corpus: Corpus) -> SeenEpisodes | None:
    """What the model was trained on whose weights another one starts from.

    Raises:
        DataError: some of it is held out here.
    """
    seen = SeenEpisodes.read(Path(init)) if init else None
    if seen and (both := seen.among(corpus) & set(corpus.test)):
        raise DataError(
            f"world_model.init: {init} was trained on {len(both)} of the {len(corpus.test)} episodes that are held out "
            f"here, for instance {corpus.dataset.ids[min(both)]!r}. Take its data.split_seed and data.test_fraction, "
            "or leave world_model.init out"
        )
    return seen


@dataclass(frozen=True)
class ProbesStage:
    probe: ProbeConfig
    data: DataConfig
    compute: ComputeConfig
    seed: int
    actions: ActionSpec | None = None
    """As a model takes them that was trained elsewhere; None as recorded."""


@versioned(1)
def make_probes(work: Workspace) -> None:
    """Train the probes on encoder latents. Inputs: data, frames, latents."""
    config: ProbesStage = work.config
    corpus = _corpus(work.inputs[0], work.inputs[1], config.data)
    if config.actions:
        corpus = corpus.for_model(config.actions)
    latents = open_latents(work.inputs[2], corpus.frames, config.compute)
    probes = Probes(corpus, latents, config.probe, config.seed)
    probes.train(work.out, config.compute, work.progress)
    probes.save(work.out)


@dataclass(frozen=True)
class EvaluateStage:
    label: Label
    evaluation: EvalConfig
    data: DataConfig
    compute: ComputeConfig
    metrics: dict[str, str]
    """Versions by name. A metric that was added or changed since is measured in a finished run, too."""
    planner: str = ""
    """The code of a planner of the user's own."""
    left_out: tuple[str, ...] = ()
    """Ids of episodes that a model from elsewhere was trained on."""
    clips: int = 8
    """Decoded rollouts to keep for the report."""


@versioned(1)
def make_rows(work: Workspace) -> None:
    """Measure everything on the held-out episodes. Inputs: data, frames, latents, probes, world model.

    A metric that fails doesn't fail the stage: the facts name it, and :func:`rslwm.study.compare.compare` lets another
    run try it again.
    """
    config: EvaluateStage = work.config
    data, frames, latents, probes, world_model = work.inputs
    model = WorldModel.load(world_model / "checkpoint").for_inference(config.compute)
    corpus = _corpus(data, frames, config.data).for_model(model.action_spec)
    left_out = frozenset(i for i, name in enumerate(corpus.dataset.ids) if name in config.left_out)
    corpus = replace(corpus, left_out=left_out)
    store = open_latents(latents, corpus.frames, config.compute)
    evaluation = Evaluation(
        corpus,
        store,
        model,
        Probes(corpus, store, config.evaluation.probe).load(probes),
        config.evaluation,
        config.compute,
        config.label,
    )
    measured = measure_each(evaluation, config.metrics, work.out / METRIC_ROWS, work.progress)
    measured.rows.save(work.out / "rows.parquet")
    _keep_clips(work.out / "clips.safetensors", evaluation, config.clips)
    _write_facts(
        work,
        unavailable=[asdict(why) for why in measured.unavailable],
        failed=[asdict(why) for why in measured.failed],
        costs=evaluation.costs,
        future=evaluation.future,
    )
    if not measured.failed:  # else a second attempt starts from these
        shutil.rmtree(work.out / METRIC_ROWS)


def _keep_clips(path: Path, evaluation: Evaluation, count: int) -> None:
    """Decoded rollouts beside the true frames, uint8: the report's videos."""
    rollouts, context = evaluation.main, evaluation.config.context
    chosen = torch.arange(0, len(rollouts.windows), max(1, len(rollouts.windows) // count))[:count]
    windows = rollouts.windows[chosen.numpy()]
    true = evaluation.pixels(windows, context + evaluation.future)
    generated = torch.cat([true[:, :context], evaluation.decode(rollouts.generated[chosen])], 1)

    def to_uint8(frames: torch.Tensor) -> torch.Tensor:
        return (frames * 255).round().clamp(0, 255).to(torch.uint8)

    ids = [f"{evaluation.corpus.dataset.ids[e]}, step {t}" for e, t in windows]
    texts = [evaluation.corpus.dataset.instructions[e] for e, _ in windows]
    metadata = {"context": json.dumps(context), "ids": json.dumps(ids), "instructions": json.dumps(texts)}
    write_tensors({"frames": to_uint8(generated), "truth": to_uint8(true)}, path, metadata)
