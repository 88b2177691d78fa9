"""The episodes of a study, and what its stages have in common: how they are pulled, what they read, what they take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rslwm.compute import ComputeConfig, seeded
from rslwm.data.check import require_sound
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.frames import DecodedFrames, build_frame_store
from rslwm.data.sources.base import Source
from rslwm.data.sources.opening import located, open_source
from rslwm.data.store import Readable, TensorStore
from rslwm.evals.rows import TEST
from rslwm.flops import Pass, training_disk, training_flops, training_memory
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.space import LatentSpace, SpaceConfig, describe
from rslwm.latents.stored import open_latents
from rslwm.optim import OptimConfig
from rslwm.run.stage import Demand, Stage, Workspace
from rslwm.serialisation import content_hash
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.study.subjects import Subject

T = TypeVar("T")


@dataclass(frozen=True)
class Sizes:
    """What a stage's demand depends on beside its configuration."""

    frames: int
    """Recorded frames of one camera."""


class StudyStage(Stage[T]):
    """A stage that a study's variants know how to come by: from its class alone, by :meth:`of`."""

    @classmethod
    def of(cls, subject: Any) -> Self:
        """This stage for one latent space, seed and size; it pulls what it needs with :meth:`Variant.pull`."""
        raise NotImplementedError

    def demand(self, sizes: Sizes) -> Demand:
        """FLOPs, bytes left on disk, and bytes on the device. A training holds weights, gradients, two moments and the
        moving average in float32, and in bfloat16 the weights once more and what autograd keeps of a batch; everything
        else its weights in bfloat16. Not counted: activations of encoders and perceptual networks, metrics, videos."""
        return Demand()

    @property
    def accelerated(self) -> bool:
        compute = getattr(self, "compute", None)
        return isinstance(compute, ComputeConfig) and compute.device.startswith("cuda")

    def reading(self, frames: float, demand: Demand) -> Demand:
        """The demand with the encoding of so many frames, where the stage reads what isn't stored."""
        for source in self.needs.values():
            if isinstance(source, Encoded) and source.streamed:
                flops, memory = frames * source.flops_per_frame, 2 * source.spec.parameters
                demand = replace(demand, flops=demand.flops + flops, memory=demand.memory + memory)
        return demand


@dataclass(frozen=True, eq=False, kw_only=True)
class DataStage(StudyStage[EpisodeDataset]):
    """Record, import or just find the episodes, and refuse faulty ones; the facts say where they are."""

    kind = "data"

    settings: DataConfig
    content: str
    """What determines the episodes beside their configuration, see :meth:`rslwm.data.sources.base.Source.key`."""

    @classmethod
    def of(cls, subject: Subject) -> DataStage:
        source = subject.study.source
        return cls(label=source.config.uri, settings=source.recorded, content=source.key())

    @property
    def source(self) -> Source:
        return open_source(self.settings)

    @property
    def world(self) -> Source | None:
        """Whom to ask what else would have happened."""
        return self.source

    @property
    def split(self) -> str:
        """Of the rows that are measured on these episodes."""
        return TEST

    @property
    def exclusive(self) -> bool:
        return self.source.exclusive

    @property
    def portable(self) -> bool:
        return self.source.written

    @property
    def seconds(self) -> float:
        return self.source.seconds

    def run(self, work: Workspace) -> None:
        source = self.source
        dataset = source.open(work.out, work.progress)
        require_sound(dataset)
        work.write_facts(
            **source.location(dataset, work.out),
            uri=self.settings.uri,
            fingerprint=dataset.fingerprint,
            episodes=len(dataset),
            frames=int(dataset.lengths.sum()),
            labelled=sum(label is not None for label in dataset.success),
            successes=sum(label is True for label in dataset.success),
            cameras=dataset.cameras,
            instructions=len(set(dataset.instructions)),
            left_out=dataset.left_out,
        )

    def open(self, work: Workspace) -> EpisodeDataset:
        return located(work.out, self.settings)


@dataclass(frozen=True, eq=False, kw_only=True)
class FramesStage(StudyStage[TensorStore]):
    """Decode and resize every frame of every configured camera: once, or whenever it is asked for."""

    kind = "frames"
    seconds = 5.0

    data: DataStage
    settings: DataConfig
    stored: bool

    @property
    def share(self) -> float:
        """How many of the recorded frames these are."""
        return 1.0

    @classmethod
    def of(cls, subject: Subject) -> FramesStage:
        data, asked = subject.pull(DataStage), subject.study.config.data
        config = replace(data.settings, camera=asked.camera, image_size=asked.image_size)
        return cls(label=data.label, data=data, settings=config, stored=subject.study.stored_frames)

    def demand(self, sizes: Sizes) -> Demand:
        return Demand(disk=self.stored * sizes.frames * self.settings.views * 3 * self.settings.image_size**2)

    def run(self, work: Workspace) -> None:
        if self.stored:
            dataset, config = work.open(self.data), self.settings
            build_frame_store(dataset, config.camera, config.image_size, work.out, work.progress)

    def open(self, work: Workspace) -> Any:
        if self.stored:
            return TensorStore(work.out)
        return DecodedFrames(work.open(self.data), self.settings.camera, self.settings.image_size)


@dataclass(frozen=True, eq=False, kw_only=True)
class OnEpisodes(StudyStage[T]):
    """A stage that reads episodes: their frames, actions, states and labels, and the split."""

    data: DataStage
    frames: FramesStage
    cut: DataConfig
    """How clips are cut."""
    compute: ComputeConfig

    def corpus(self, work: Workspace) -> Corpus:
        """The episodes with their frames."""
        return Corpus(work.open(self.data), work.open(self.frames), self.cut)

    def sharing(self, optim: OptimConfig) -> int:
        """Processes that have equally many batches of every step of a training, as many as it may have."""
        return gcd(self.compute.world_size, optim.accumulate)


def on_episodes(subject: Subject, framewise: bool = False) -> dict[str, Any]:
    """The fields of :class:`OnEpisodes`. What works frame by frame doesn't depend on how clips are cut."""
    study = subject.study
    return {
        "data": subject.pull(DataStage),
        "frames": subject.pull(FramesStage),
        "cut": study.framewise if framewise else study.config.data,
        "compute": study.compute,
    }


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoded(StudyStage[Readable]):
    """What is made of every frame: stored or, where it is too wide, encoded whenever it is read."""

    seconds = 15.0

    frames: FramesStage
    compute: ComputeConfig
    streamed: bool

    @property
    def spec(self) -> LatentSpec:
        raise NotImplementedError

    @property
    def flops_per_frame(self) -> float:
        """Of encoding a frame anew."""
        raise NotImplementedError

    def kept(self, sizes: Sizes, space: SpaceConfig, flops: float) -> Demand:
        """Of encoding every frame once, ``flops`` each, and of the space that is kept beside them."""
        disk = saved_bytes(space)
        if self.streamed:
            return Demand(disk=disk)
        frames = sizes.frames * self.frames.share
        disk += frames * self.spec.bytes_per_frame
        return self.reading(frames, Demand(frames * flops, disk, 2 * self.spec.parameters))

    def open(self, work: Workspace) -> Readable:
        return open_latents(work.out, work.open(self.frames), self.compute)


# ------------------------------------------------------------------------------------------------------------- demands

_described: dict[str, LatentSpace] = {}
_counted: dict[str, tuple[int, int]] = {}


def described(config: SpaceConfig) -> LatentSpace:
    """What is known of a space without weights, see :func:`rslwm.latents.space.describe`."""
    key = content_hash(config)
    if key not in _described:
        with seeded(0, "check"):
            _described[key] = describe(config)
    return _described[key]


def own_flops(config: SpaceConfig) -> tuple[int, int]:
    """What the encoder's own networks take to encode and to decode one view of a frame."""
    key = content_hash(replace(config, channels=0, adapter=AdapterConfig()))
    if key not in _counted:
        _counted[key] = described(config).encoder.flops()
    return _counted[key]


def saved_bytes(config: SpaceConfig) -> float:
    """Of a space on disk, without pixels and without published weights."""
    return sum(x.nbytes for x in described(config).state_dict().values())


def training(optim: OptimConfig, one: Pass) -> Demand:
    """Of a training whose sample passes once through a network."""
    flops = optim.samples * training_flops(one.flops)
    return Demand(flops, training_disk(optim, one.parameters), training_memory(optim, one))
