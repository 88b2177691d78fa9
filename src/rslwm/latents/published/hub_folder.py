"""Vision transformers as the hub keeps them for the transformers library: config.json beside safetensors files."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rslwm.latents.published.base import Architecture, PublishedEncoder, import_library, require
from rslwm.latents.published.weights import Source, Weights, places, read_json
from rslwm.serialisation import from_dict
from rslwm.types import DataError

CONFIG, FILE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class HubArchitecture(Architecture):
    config: Any
    """A dataclass: what of the library's configuration shapes the network or changes what it computes."""


class HubTransformer(PublishedEncoder):
    """A vision transformer in a folder of the hub, or the part of such a model that sees.

    Of a model in several files the folder holds an index. A subclass declares the class variables and implements
    :meth:`features`.
    """

    library: ClassVar[tuple[str, str]]
    """Names of the library's classes: of the configuration and of the network."""
    model_type: ClassVar[str]
    """What config.json has to say."""
    section: ClassVar[str] = ""
    """Entry of config.json that describes the network; empty if all of it does."""
    prefix: ClassVar[str] = ""
    """What names of the network's tensors start with in the file."""
    others: ClassVar[tuple[str, ...]] = ()
    """What names of tensors start with that belong to other parts of the model."""
    published: ClassVar[HubArchitecture]

    def needed(self) -> Source:
        found = [place for place in places(self.name, self.options.weights, self.config.weights) if place.exists()]
        if not found:
            return self.source
        place = found[0]
        index = place if place.is_file() else place / INDEX
        if index.name != INDEX or not index.is_file() or (place / FILE).is_file():
            return self.source
        return replace(self.source, files=(INDEX, CONFIG, *_shards(index)))

    def measure(self, weights: Weights) -> HubArchitecture:
        config = self._configuration(weights.file.with_name(CONFIG))
        shapes = _shapes(weights.file)
        own = [shape for name, shape in shapes.items() if name.startswith(self.prefix)]
        require(bool(own), weights, f"holds no tensor {self.prefix}*, only such as {min(shapes, default=None)!r}")
        return HubArchitecture(config.hidden_size, config.patch_size, sum(map(math.prod, own)), config)

    def build(self, architecture: HubArchitecture) -> nn.Module:
        configuration, network = self._classes()
        return network(configuration(**asdict(architecture.config)))

    def load(self, weights: Weights) -> nn.Module:
        """The network with its weights, strictly; a tensor is named as the library names it.

        The library renames tensors of older files in memory, so that loading has to be left to it.
        """
        tensors = self._tensors(weights.file)
        configuration, network = self._classes()
        try:
            with _quiet():
                loaded, report = network.from_pretrained(
                    None,
                    config=configuration(**asdict(self.architecture.config)),
                    state_dict=tensors,
                    dtype=self.network_dtype,
                    ignore_mismatched_sizes=True,  # reported, and refused below
                    output_loading_info=True,
                )
        except RuntimeError:  # without a reason: the library writes it into the report that was silenced
            raise DataError(f"{weights.file}: its tensors can't be split as those of {self.name} are") from None
        for name in sorted(report["missing_keys"]):
            raise DataError(f"{weights.file}: tensor {self.prefix + name!r} is missing")
        for name, found, expected in sorted(report["mismatched_keys"]):
            what = f"tensor {self.prefix + name!r} is {tuple(found)}, expected {tuple(expected)}"
            raise DataError(f"{weights.file}: {what}")
        for name in sorted(report["unexpected_keys"]):
            raise DataError(f"{weights.file}: unexpected tensor {self.prefix + name!r}")
        return loaded

    def _configuration(self, path: Path) -> Any:
        content = read_json(path)
        kind = content.get("model_type")
        if kind != self.model_type:
            raise DataError(f"{path}: model_type is {kind!r}; {self.name} reads models of type {self.model_type!r}")
        section = content.get(self.section) if self.section else content
        if not isinstance(section, dict):
            raise DataError(f"{path}: {self.section} is {section!r}, expected the description of a network")
        type_ = type(self.published.config)
        known = {f.name for f in fields(type_)}
        config = from_dict(type_, {name: value for name, value in section.items() if name in known}, str(path))
        for name in ("hidden_size", "num_attention_heads", "image_size", "patch_size"):
            if getattr(config, name) < 1:
                raise DataError(f"{path}: {name} is {getattr(config, name)}, expected 1 or more")
        if config.hidden_size % config.num_attention_heads:
            heads = config.num_attention_heads
            raise DataError(f"{path}: num_attention_heads is {heads}, which doesn't divide {config.hidden_size}")
        return config

    def _tensors(self, file: Path) -> dict[str, Tensor]:
        """The network's tensors, without their prefix; those of other parts are not read."""
        tensors = {}
        for path in _files(file):
            with _opened(path) as content:
                for name in content.keys():  # noqa: SIM118  # the file is no mapping
                    if not name.startswith((self.prefix, *self.others)):
                        raise DataError(f"{path}: unexpected tensor {name!r}")
                    if name.startswith(self.prefix):
                        tensors[name.removeprefix(self.prefix)] = content.get_tensor(name)
        return tensors

    def _classes(self) -> tuple[Any, Any]:
        transformers, (configuration, network) = import_library(self.name, "transformers", "encoders"), self.library
        return getattr(transformers, configuration), getattr(transformers, network)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the library's progress bar, and its report of what doesn't fit, which is an error of ours."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as content:
            yield content
    except SafetensorError as error:
        raise DataError(f"{path} is truncated or not a safetensors file ({error})") from None


def _shapes(file: Path) -> dict[str, list[int]]:
    """Of all tensors of a model, from the headers of its files."""
    shapes = {}
    for path in _files(file):
        with _opened(path) as content:
            shapes.update({name: content.get_slice(name).get_shape() for name in content.keys()})  # noqa: SIM118
    return shapes


def _files(file: Path) -> list[Path]:
    """The safetensors files of a model: this one, or those of the index."""
    return [file.with_name(name) for name in _shards(file)] if file.name == INDEX else [file]


def _shards(index: Path) -> list[str]:
    places = read_json(index).get("weight_map")
    names = set(places.values()) if isinstance(places, dict) else set()
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise DataError(f"{index}: weight_map must say in which file beside it each tensor is, got {places!r:.80}")
    return sorted(names)
