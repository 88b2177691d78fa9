"""A study: what its latent spaces share. Its stages are pulled from its targets, the metrics of every space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import torch

from rslwm.compute import resolved
from rslwm.data.config import DataConfig
from rslwm.data.fingerprint import files_key
from rslwm.data.sources.base import Source
from rslwm.data.sources.opening import URIS, open_source
from rslwm.evals.base import METRICS, Metric, MetricInfo, named, split
from rslwm.evals.perturbations import perturbations
from rslwm.model.dit import SIZES, DiTConfig
from rslwm.registry import code_of
from rslwm.run.stage import Stage, closure
from rslwm.serialisation import ConfigError
from rslwm.shipping import located
from rslwm.study.config import StudyConfig
from rslwm.study.entry import parse_entries
from rslwm.study.stages.decoder import DecoderStage
from rslwm.study.stages.encoder import EncoderStage
from rslwm.study.stages.reference import ORACLE, REFERENCES
from rslwm.study.subjects import Reference, Variant, row_of
from rslwm.train.pixel_loss import PixelLoss

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
        entries, first = parse_entries(self.config), self.config.first_seed
        return tuple(
            row_of(study=self, seed=entry.seed + number, entry=entry, size=size)
            for size in _sizes(self.config)
            for entry in entries
            for number in range(first, first + self.config.seeds)
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
        self._check_processes()
        for stage, variant in {variant.pull(EncoderStage): variant for variant in self.compared}.items():
            if not finished(stage):
                variant.entry.check(self.config)
        if any(isinstance(s, DecoderStage) and s.latents and not finished(s) for s in closure(self.targets)):
            PixelLoss(self.config.decoder, self.config.decoder.optim.samples, torch.device("cpu"))

    def _check_processes(self) -> None:
        """Refuse processes that couldn't share the world models' batches equally."""
        size, compiled = self.compute.world_size, self.compute.shard and self.compute.compile
        for accumulate in {variant.world_model.optim.accumulate for variant in self.compared}:
            if size < 1 or accumulate % size:
                raise ConfigError(
                    f"compute.world_size is {size}, but a step of the world model has {accumulate} batch(es) "
                    f"(world_model.optim.accumulate), which so many processes can't share equally; set accumulate to a "
                    "multiple and batch_size to a part, which is another training, or world_size to a divisor"
                )
        if size > 1 and ":" in self.compute.device:
            device = f"compute.device is {self.compute.device!r} for {size} processes"
            raise ConfigError(f"{device}; name no number, each gets a GPU of its own")
        if compiled:
            raise ConfigError("compute.shard and compute.compile don't go together; leave one of them out")

    def by_size(self) -> dict[str, list[Variant]]:
        """One comparison a size: models of different sizes are never compared with each other."""
        sizes = dict.fromkeys(variant.size for variant in self.variants)
        return {size: [v for v in self.variants if v.size == size] for size in sizes}


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
    """Changes with the files of a checkpoint; empty for none. Raises :class:`ConfigError` if the folder holds none, and
    what :func:`located` raises."""
    if not folder:
        return ""
    if not ((place := located(folder)) / "model.safetensors").is_file():
        raise ConfigError(f"world_model.init: {folder} holds no model.safetensors; name the folder of a world model")
    return files_key(place)


def _with_views(config: StudyConfig) -> StudyConfig:
    """With a transformer of as many views as there are cameras; :class:`ConfigError` if it was told another number."""
    model, views = config.world_model, config.data.views
    if model.dit.views not in (DiTConfig.views, views):
        raise ConfigError(
            f"world_model.dit.views is {model.dit.views}, but data.camera {config.data.camera!r} is {views} camera(s); "
            "leave dit.views out, it follows from data.camera"
        )
    return replace(config, world_model=replace(model, dit=replace(model.dit, views=views)))
