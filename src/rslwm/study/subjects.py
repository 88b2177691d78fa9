"""What stages are pulled for: latent spaces, sanity rows beside them, and either on perturbed episodes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from rslwm.evals.evaluation import Label
from rslwm.evals.perturbations import Perturbation
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.latents.stored import too_wide
from rslwm.model.dit import size_of
from rslwm.model.world_model import WorldModelConfig
from rslwm.run.stage import Stage
from rslwm.serialisation import ConfigError
from rslwm.study.entry import Entry
from rslwm.study.stages.base import DataStage, FramesStage
from rslwm.study.stages.decoder import DecoderStage
from rslwm.study.stages.encoder import EncoderStage, FeaturesStage
from rslwm.study.stages.latents import AdapterStage, LatentsStage, SpaceStage
from rslwm.study.stages.metric import MetricStage, RolloutsStage
from rslwm.study.stages.perturbed import PerturbedData, PerturbedFrames
from rslwm.study.stages.reference import PIXELS, REFERENCES
from rslwm.study.stages.taken import TAKEN
from rslwm.study.stages.world_model import ScalingConfig, WorldModelStage, scaled
from rslwm.types import REFERENCE, ActionSpec

if TYPE_CHECKING:
    from rslwm.study.graph import Study

S = TypeVar("S", bound=Stage)


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """What stages are pulled for: a latent space with its world model."""

    study: Study
    seed: int = 0
    pulled: dict[type[Stage], Stage] = field(default_factory=dict)
    """Stages by the class that they are asked for by."""
    actions: ActionSpec | None = None
    """As a model takes them that was trained elsewhere; None as recorded."""
    left_out: tuple[str, ...] = ()
    """Ids of episodes that such a model was trained on."""

    def pull(self, stage: type[S]) -> S:
        """The stage of this class, made once; it pulls what it needs in turn."""
        if stage not in self.pulled:
            self.pulled[stage] = stage.of(self)  # type: ignore[attr-defined]
        return cast(S, self.pulled[stage])

    @property
    def trained(self) -> Subject:
        """Of whose latents probes are trained."""
        return self

    @cached_property
    def metrics(self) -> dict[str, MetricStage]:
        """By reference."""
        return {name: MetricStage.of_metric(name, self) for name in self.study.metrics}

    @property
    def label(self) -> str:
        """For people."""
        raise NotImplementedError

    @property
    def sized(self) -> str:
        """The same with the size of the world model."""
        return self.label

    @property
    def row(self) -> Label:
        """The columns by which its rows are told from another's."""
        raise NotImplementedError

    @property
    def streamed(self) -> bool:
        """Whether its latents are too wide to store, for all cameras together."""
        raise NotImplementedError

    @property
    def compressed(self) -> bool:
        """Whether its latents are encoded from the features of a native space."""
        return False


@dataclass(frozen=True, eq=False, kw_only=True)
class Variant(Subject):
    """One latent space of a study, under one seed and with a transformer of one size."""

    entry: Entry
    size: str = ""
    """Empty if the study doesn't name sizes."""

    @property
    def targets(self) -> list[Stage]:
        """What its results are put together from."""
        return [*self.metrics.values(), *map(self.pull, (DataStage, RolloutsStage)), *self.costly, *self.out_there]

    @property
    def of_a_size(self) -> list[Stage]:
        """The stages that depend on the size of the transformer."""
        rollouts = [subject.pull(RolloutsStage) for subject in (self, *self.perturbed)]
        return [self.pull(WorldModelStage), *rollouts, *self.metrics.values(), *self.out_there]

    @cached_property
    def perturbed(self) -> tuple[Perturbed, ...]:
        """The same in worlds that training never showed."""
        return tuple(Perturbed.by(name, found, self) for name, found in self.study.perturbations.items())

    @property
    def out_there(self) -> list[MetricStage]:
        """Its metrics in all of these."""
        return [stage for subject in self.perturbed for stage in subject.metrics.values()]

    @property
    def costly(self) -> list[Stage]:
        """The stages whose costs the report tells."""
        adapted = self.twin or self
        adapter = [adapted.pull(AdapterStage)] if adapted.compressed else []
        return [*map(self.pull, (EncoderStage, SpaceStage, DecoderStage, WorldModelStage)), *adapter]

    @property
    def compressed(self) -> bool:
        return bool(self.entry.channels)

    @cached_property
    def space(self) -> SpaceConfig:
        return self.entry.space(self.study.config)

    @cached_property
    def described(self) -> LatentSpace:
        """What is known of the space without weights."""
        return self.entry.open(self.study.config)

    def with_entry(self, entry: Entry) -> Variant:
        """The same of another space."""
        return replace(self, entry=entry, pulled={})

    @cached_property
    def native(self) -> Variant:
        """The same without an adapter."""
        return self.with_entry(replace(self.entry, channels=0)) if self.compressed else self

    @cached_property
    def twin(self) -> Variant | None:
        """The compressed space that this native semantic one decodes through, if it does."""
        through = self.study.config.decoder.through
        if not through or self.compressed or self.described.spec.family != "semantic":
            return None
        return self.with_entry(replace(self.entry, name=f"{self.entry.name}+{through}", channels=through))

    @cached_property
    def teacher(self) -> Variant | None:
        """The frozen encoder whose features this one's training reads, if it does."""
        name = self.entry.encoder.teacher
        return self.with_entry(Entry.parse(name)) if name else None

    @property
    def label(self) -> str:
        return f"{self.entry.name} seed {self.seed}"

    @property
    def sized(self) -> str:
        return " ".join(filter(None, (self.entry.name, self.size, f"seed {self.seed}")))

    @property
    def streamed(self) -> bool:
        return too_wide(self.described.spec, self.study.config.stream_above_kb)

    @property
    def world_model(self) -> WorldModelConfig:
        config = self.study.config
        return scaled(config.world_model, config.scaling, self.described.view_spec, self.size)

    @property
    def row(self) -> Label:
        return Label(self.entry.name, self.described.spec.family, size_of(self.world_model.dit), self.seed)

    @property
    def folder(self) -> str:
        """Name of what is copied out of the run."""
        seed = f"seed{self.seed}" if self.study.config.seeds > 1 else ""
        return "-".join(filter(None, (self.entry.name, self.size, seed)))

    def frozen(self) -> SpaceStage | DecoderStage:
        """The stage of the space, with its own pixels if it has them, that takes no training; :class:`ConfigError` if
        there is something to train, and what :meth:`Entry.check` raises."""
        if self.compressed or self.entry.encoder.trainable:
            part = f"its adapter to {self.entry.channels} channels" if self.compressed else "its encoder"
            raise ConfigError(
                f"{self.entry.name} has to be trained first, {part}: `rslwm latents train {self.entry.name} --data "
                f"{self.study.config.data.uri}`, then encode with the folder that it names"
            )
        self.entry.check(self.study.config)
        return self.pull(DecoderStage) if self.decodes_itself else self.pull(SpaceStage)

    @property
    def decodes_itself(self) -> bool:
        """Whether pixels come from the encoder's own decoder, which isn't trained."""
        return self.study.config.decoder.own and self.entry.encoder.decodes


@dataclass(frozen=True, eq=False, kw_only=True)
class FromFolder(Variant):
    """A latent space that was trained elsewhere, shipped with the package or in a folder: nothing of it is trained, and
    what seeds change are its world models and probes."""

    def pull(self, stage: type[S]) -> S:
        return super().pull(cast(type[S], TAKEN.get(stage, stage)))

    @property
    def compressed(self) -> bool:
        return False  # a whole space encodes frames

    @property
    def costly(self) -> list[Stage]:
        return [self.pull(SpaceStage), self.pull(WorldModelStage)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference(Variant):
    """A sanity row: what a metric says of it is known before. It is measured like any other and trains no world model;
    what it sees, if anything, are raw pixels."""

    kind: str
    """A name of :data:`REFERENCES`."""

    def pull(self, stage: type[S]) -> S:
        return super().pull(cast(type[S], REFERENCES[self.kind].get(stage, stage)))

    @property
    def costly(self) -> list[Stage]:
        return [self.pull(WorldModelStage)]

    @property
    def world_model(self) -> WorldModelConfig:
        """That of the rows beside it."""
        config = self.study.config
        return scaled(config.world_model, ScalingConfig(), self.described.view_spec, self.size)

    @property
    def row(self) -> Label:
        return replace(super().row, family=REFERENCE)

    @property
    def out_there(self) -> list[MetricStage]:
        return []


def row_of(entry: Entry, **of: Any) -> Variant:
    """Raises :class:`ConfigError` if a sanity row is to be compressed."""
    if entry.folder:
        return FromFolder(entry=entry, **of)
    if entry.reference not in REFERENCES:
        return Variant(entry=entry, **of)
    if entry.channels:
        raise ConfigError(f"latents: {entry.name}: {entry.reference} takes no adapter; leave +{entry.channels} out")
    return Reference(entry=replace(entry, reference=PIXELS), kind=entry.reference, **of)


@dataclass(frozen=True, eq=False, kw_only=True)
class Perturbed(Subject):
    """A variant that is measured on perturbed episodes. Only these, their latents and what the world model makes of
    them are its own; whatever is trained comes from the variant as it is."""

    variant: Variant
    reference: str

    OWN: ClassVar = (DataStage, FramesStage, FeaturesStage, LatentsStage, RolloutsStage)

    @classmethod
    def by(cls, reference: str, perturbation: Perturbation, variant: Variant) -> Perturbed:
        """A variant under a perturbation."""
        data = PerturbedData.of_perturbation(reference, perturbation, variant)
        pulled: dict[type[Stage], Stage] = {DataStage: data, FramesStage: PerturbedFrames.of_data(data, variant)}
        return cls(study=variant.study, seed=variant.seed, pulled=pulled, variant=variant, reference=reference)

    def pull(self, stage: type[S]) -> S:
        return super().pull(stage) if stage in self.OWN else self.variant.pull(stage)

    @property
    def trained(self) -> Variant:
        return self.variant

    @property
    def native(self) -> Variant:
        """The variant without an adapter, whose encoder is the same."""
        return self.variant.native

    @cached_property
    def metrics(self) -> dict[str, MetricStage]:
        return {name: MetricStage.of_metric(name, self) for name in self.study.perturbed}

    @property
    def label(self) -> str:
        return f"{self.variant.label} {self.reference}"

    @property
    def sized(self) -> str:
        return f"{self.variant.sized} {self.reference}"

    @property
    def row(self) -> Label:
        return self.variant.row

    @property
    def streamed(self) -> bool:
        return self.variant.streamed

    @property
    def compressed(self) -> bool:
        return self.variant.compressed
