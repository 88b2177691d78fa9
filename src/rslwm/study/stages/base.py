"""What the stages of a study have in common: how they are pulled for a latent space, and what they read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rslwm.compute import ComputeConfig, seeded
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.flops import Pass, training_disk, training_flops, training_memory
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.space import LatentSpace, SpaceConfig, describe
from rslwm.optim import OptimConfig
from rslwm.run.stage import Demand, Stage, Workspace
from rslwm.serialisation import content_hash

if TYPE_CHECKING:
    from rslwm.study.graph import Subject
    from rslwm.study.stages.data import DataStage
    from rslwm.study.stages.frames import FramesStage

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


def on_episodes(subject: Subject, framewise: bool = False) -> dict[str, Any]:
    """The fields of :class:`OnEpisodes`. What works frame by frame doesn't depend on how clips are cut."""
    from rslwm.study.stages.data import DataStage
    from rslwm.study.stages.frames import FramesStage

    study = subject.study
    return {
        "data": subject.pull(DataStage),
        "frames": subject.pull(FramesStage),
        "cut": study.framewise if framewise else study.config.data,
        "compute": study.compute,
    }


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
    return Demand(
        flops=optim.samples * training_flops(one.flops),
        disk=training_disk(optim, one.parameters),
        memory=training_memory(optim, one),
    )


def reading(stage: Stage, frames: float, demand: Demand) -> Demand:
    """A demand with the encoding of so many frames, where the stage reads features or latents that aren't stored."""
    for flops, memory in _encoded_anew(stage):
        demand = replace(demand, flops=demand.flops + frames * flops, memory=demand.memory + memory)
    return demand


def _encoded_anew(stage: Stage) -> Iterator[tuple[float, float]]:
    for source in stage.needs.values():
        if getattr(source, "streamed", False):
            yield source.flops_per_frame, 2 * source.spec.parameters  # type: ignore[attr-defined]
