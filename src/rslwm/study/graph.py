"""Which stages a study consists of: they are pulled from its targets, the metrics of every latent space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch

from rslwm.compute import resolved
from rslwm.data.config import DataConfig
from rslwm.data.fingerprint import files_key
from rslwm.data.sources.base import Source
from rslwm.data.sources.opening import URIS, open_source
from rslwm.evals.base import METRICS, Metric, MetricInfo, named, split
from rslwm.evals.evaluation import Label
from rslwm.evals.perturbations import Perturbation, perturbations
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.latents.stored import too_wide
from rslwm.model.dit import SIZES, DiTConfig, size_of
from rslwm.model.world_model import WorldModelConfig
from rslwm.registry import code_of
from rslwm.run.stage import Stage, closure
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry, parse_entries
from rslwm.study.stages.base import DataStage, FramesStage
from rslwm.study.stages.decoder import DecoderStage
from rslwm.study.stages.encoder import EncoderStage, FeaturesStage
from rslwm.study.stages.latents import AdapterStage, LatentsStage, SpaceStage
from rslwm.study.stages.metric import MetricStage, RolloutsStage
from rslwm.study.stages.perturbed import PerturbedData, PerturbedFrames
from rslwm.study.stages.reference import ORACLE, PIXELS, REFERENCES
from rslwm.study.stages.world_model import ScalingConfig, WorldModelStage, scaled
from rslwm.train.pixel_loss import PixelLoss
from rslwm.types import REFERENCE, ActionSpec

S = TypeVar("S", bound=Stage)


class Study:
    """A configuration, and what all its latent spaces share. Without ``stored_frames``, they are decoded whenever they
    are asked for, which a single pass wants.

    Raises:
        ConfigError, UnknownName: it can't be run, or names a metric that doesn't exist.
    """

    def __init__(self, config: StudyConfig, stored_frames: bool = True) -> None:
        self.stored_frames = stored_frames
        self.config, self.compute = _with_views(config), resolved(config.compute)
        self.init = _checkpoint_key(config.world_model.init)
        # Up to the latents everything works frame by frame, and how clips are cut must not change its key.
        self.framewise = replace(config.data, frame_skip=DataConfig.frame_skip, actions=DataConfig.actions)
        self.source: Source = open_source(config.data)
        self.metrics = {name: named(name, config.evaluation.settings) for name in _metrics(config.metrics)}
        self.infos = _declared(self.metrics)
        """What is measured, by name."""
        self.perturbations = perturbations(config.robustness, config.data) if config.robustness else {}
        asked = config.robustness_metrics
        self.perturbed = [name for name in self.metrics if "all" in asked or split(name)[0] in asked]
        """References of the metrics that are measured on perturbed episodes, too."""

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Every space, seed and size; raises what :func:`parse_entries` does."""
        entries, seeds = parse_entries(self.config), range(self.config.seeds)
        return tuple(
            _variant(study=self, seed=entry.seed + number, entry=entry, size=size)
            for size in _sizes(self.config)
            for entry in entries
            for number in seeds
        )

    @property
    def compared(self) -> tuple[Variant, ...]:
        """The variants without the sanity rows that are shown beside them."""
        return tuple(variant for variant in self.variants if not isinstance(variant, Reference))

    @property
    def editions(self) -> dict[str, str]:
        """The version of every metric by its name and, if it is the user's own, the hash of its code."""
        return {split(name)[0]: f"{metric.version}{code_of(type(metric))}" for name, metric in self.metrics.items()}

    @property
    def targets(self) -> list[Stage]:
        """What a study's results are put together from: a folder among them that was deleted is made again."""
        return [stage for variant in self.variants for stage in variant.targets]

    def check(self, finished: Callable[[Stage], bool]) -> None:
        """Refuse, before anything runs, a study without data (:class:`ConfigError`), networks without their weights and
        encoders that aren't what they say, see :class:`PixelLoss` and :meth:`Entry.check`."""
        if not self.config.data.uri:
            raise ConfigError(f"data.uri is empty: this study brings no data; give --data {URIS}")
        if not self.compared:
            raise ConfigError(
                f"latents: {', '.join(REFERENCES)} are shown beside latent spaces; name one of these, too"
            )
        if any(isinstance(v, Reference) and v.kind == ORACLE for v in self.variants) and not self.source.environment:
            data = f"{self.config.data.uri} is a recording: there is no simulator behind it that could be asked"
            raise ConfigError(f"latents: {data}. Leave {ORACLE} out")
        for stage, variant in {variant.pull(EncoderStage): variant for variant in self.compared}.items():
            if not finished(stage):
                variant.entry.check(self.config)
        if any(isinstance(s, DecoderStage) and s.latents and not finished(s) for s in closure(self.targets)):
            PixelLoss(self.config.decoder, self.config.decoder.optim.samples, torch.device("cpu"))

    def by_size(self) -> dict[str, list[Variant]]:
        """One comparison a size: models of different sizes are never compared with each other."""
        sizes = dict.fromkeys(variant.size for variant in self.variants)
        return {size: [v for v in self.variants if v.size == size] for size in sizes}


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


def _variant(entry: Entry, **of: Any) -> Variant:
    """Raises :class:`ConfigError` if a sanity row is to be compressed."""
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


def _metrics(references: tuple[str, ...]) -> list[str]:
    """``all`` stands for every registered one, in the order of their names, ``core`` for those of them that are; of two
    of the same name the later one counts."""
    found: dict[str, str] = {}
    for reference in references:
        if reference in ("all", "core"):
            found |= {name: name for name in sorted(METRICS) if reference == "all" or METRICS.get(name).core}
        else:
            found[split(reference)[0]] = reference
    return [*found.values()]


def _declared(metrics: Mapping[str, Metric]) -> dict[str, MetricInfo]:
    """Raises :class:`ConfigError` if two metrics declare the same: their rows couldn't be told apart."""
    found: dict[str, MetricInfo] = {}
    for reference, metric in metrics.items():
        for info in metric.infos:
            if info.name in found:
                raise ConfigError(f"metrics: {reference} declares {info.name!r} as another one does; rename it")
            found[info.name] = info
    return found


def _sizes(config: StudyConfig) -> tuple[str, ...]:
    """Of a study; one without a name if it has only ``world_model.dit``. Raises :class:`ConfigError` if one is unknown
    or named twice."""
    for where, names in (("sizes", config.sizes), ("scaling.optim", tuple(config.scaling.optim))):
        for name in names:
            if name not in SIZES:
                raise ConfigError(f"{where}: there is no size {name!r}; sizes: {', '.join(SIZES)}")
            if names.count(name) > 1:
                raise ConfigError(f"{where}: {name!r} occurs twice")
    return config.sizes or ("",)


def _checkpoint_key(folder: str) -> str:
    """Changes with the files of a checkpoint; empty for none. Raises :class:`ConfigError` if the folder holds none."""
    if not folder:
        return ""
    if not (Path(folder) / "model.safetensors").is_file():
        raise ConfigError(f"world_model.init: {folder} holds no model.safetensors; name the folder of a world model")
    return files_key(Path(folder))


def _with_views(config: StudyConfig) -> StudyConfig:
    """With a transformer of as many views as there are cameras; :class:`ConfigError` if it was told another number."""
    model, views = config.world_model, config.data.views
    if model.dit.views not in (DiTConfig.views, views):
        raise ConfigError(
            f"world_model.dit.views is {model.dit.views}, but data.camera {config.data.camera!r} is {views} camera(s); "
            "leave dit.views out, it follows from data.camera"
        )
    return replace(config, world_model=replace(model, dit=replace(model.dit, views=views)))
