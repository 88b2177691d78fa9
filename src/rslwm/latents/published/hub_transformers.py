"""Web-DINO and SigLIP 2: vision transformers as the hub keeps them for the transformers library, config.json beside
safetensors files."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from einops import rearrange
from torch import Tensor, nn

from rslwm.files import read_json
from rslwm.latents.base import ENCODERS
from rslwm.latents.published.base import IMAGENET, Architecture, Options, PublishedEncoder, import_library, require
from rslwm.latents.published.weights import Source, Weights, places
from rslwm.serialisation import from_dict
from rslwm.tensors import opened
from rslwm.types import DataError

CONFIG, FILE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


DEEPEST, WIDEST = 1000, 2**20
"""Layers, and any other number, above which a configuration isn't one."""


@dataclass(frozen=True)
class ViTConfig:
    """What of the library's configuration shapes the network or changes what it computes."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    patch_size: int = 16
    image_size: int = 224
    """Pixels of a side that the position embedding was trained for; it is interpolated to others."""
    layer_norm_eps: float = 1e-6


class HubTransformer(PublishedEncoder):
    """A vision transformer in a folder of the hub, or the part of such a model that sees; of a model in several files
    the folder holds an index. A subclass declares the class variables and implements :meth:`features`."""

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

    def needed(self) -> Source:
        for place in filter(Path.exists, places(self.name, self.options.weights, self.config.weights)):
            index = place if place.is_file() else place / INDEX
            if index.name == INDEX and index.is_file() and not (place / FILE).is_file():
                return replace(self.source, files=(INDEX, CONFIG, *_shards(index)))
            break
        return self.source

    def measure(self, weights: Weights) -> Architecture:
        config = self._configuration(weights.file.with_name(CONFIG))
        shapes = _shapes(weights.file)
        own = [shape for name, shape in shapes.items() if name.startswith(self.prefix)]
        require(bool(own), weights, f"holds no tensor {self.prefix}*, only such as {min(shapes, default=None)!r}")
        return Architecture(config.hidden_size, config.patch_size, sum(map(math.prod, own)), config)

    def build(self, architecture: Architecture) -> nn.Module:
        configuration, network = self._classes()
        return network(configuration(**asdict(architecture.config)))

    def load(self, weights: Weights) -> nn.Module:
        # The library renames tensors of older files in memory, so that loading has to be left to it.
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
        for name, *shapes in sorted(report["mismatched_keys"]):
            found, expected = map(tuple, shapes)
            raise DataError(f"{weights.file}: tensor {self.prefix + name!r} is {found}, expected {expected}")
        for name in sorted(report["unexpected_keys"]):
            raise DataError(f"{weights.file}: unexpected tensor {self.prefix + name!r}")
        return loaded

    def _configuration(self, path: Path) -> ViTConfig:
        content = read_json(path)
        kind = content.get("model_type")
        if kind != self.model_type:
            raise DataError(f"{path}: model_type is {kind!r}; {self.name} reads models of type {self.model_type!r}")
        section = content.get(self.section) if self.section else content
        if not isinstance(section, dict):
            raise DataError(f"{path}: {self.section} is {section!r}, expected the description of a network")
        type_ = type(self.published.config)
        known = {f.name: section[f.name] for f in fields(type_) if f.name in section}
        config = from_dict(type_, known, str(path))
        for name in ("hidden_size", "num_attention_heads", "image_size", "patch_size"):
            if getattr(config, name) < 1:
                raise DataError(f"{path}: {name} is {getattr(config, name)}, expected 1 or more")
        for name, value in asdict(config).items():
            if isinstance(value, int) and value > (DEEPEST if name == "num_hidden_layers" else WIDEST):
                raise DataError(f"{path}: {name} is {value}, which no network of this kind has")
        if config.hidden_size % (heads := config.num_attention_heads):
            raise DataError(f"{path}: num_attention_heads is {heads}, which doesn't divide {config.hidden_size}")
        return config

    def _tensors(self, file: Path) -> dict[str, Tensor]:
        """The network's tensors, without their prefix; those of other parts are not read."""
        tensors = {}
        for path in _files(file):
            with opened(path) as content:
                for name in content.keys():  # noqa: SIM118  # the file is no mapping
                    if name.startswith(self.prefix):
                        tensors[name.removeprefix(self.prefix)] = content.get_tensor(name)
                    elif not name.startswith(self.others):
                        raise DataError(f"{path}: unexpected tensor {name!r}")
        return tensors

    def _classes(self) -> tuple[Any, Any]:
        transformers, (configuration, network) = import_library(self.name, "transformers", "encoders"), self.library
        return getattr(transformers, configuration), getattr(transformers, network)


@dataclass(frozen=True)
class DINOConfig(ViTConfig):
    """Of ``transformers.Dinov2Config``, with its defaults."""

    patch_size: int = 14
    mlp_ratio: int = 4
    hidden_act: str = "gelu"
    qkv_bias: bool = True
    use_swiglu_ffn: bool = False
    use_mask_token: bool = True


@ENCODERS.register("web-dino")
class WebDINO(HubTransformer):
    """DINOv2's objective on two billion images of the web (Fan et al., arXiv 2504.01017): patch tokens after the last
    norm, without the class token. The larger models load as well."""

    name = "web-dino"
    family = "semantic"
    source = Source(
        (FILE, CONFIG),
        megabytes=1215,
        licence="CC-BY-NC-4.0",
        repository="facebook/webssl-dino300m-full2b-224",
        revision="8529cdb3fb75014932af3b896455fc21c386168e",
    )
    published = Architecture(
        channels=1024,
        patch=14,
        parameters=303_655_168,
        config=DINOConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, use_swiglu_ffn=True),
    )
    library = ("Dinov2Config", "Dinov2Model")
    model_type = "dinov2"
    mean, std = IMAGENET

    def features(self, network: Any, images: Tensor) -> Tensor:
        tokens = network(images).last_hidden_state
        return rearrange(tokens[:, 1:], "N (h w) C -> N h w C", h=self.spec.grid[0])


@dataclass(frozen=True)
class SigLIP2Options(Options):
    features: Literal["before-norm", "after-norm"] = "before-norm"
    """Patch tokens of the last layer before its norm (the paper's code) or after it, where the library's own
    ``last_hidden_state`` is taken."""


@dataclass(frozen=True)
class SigLIPConfig(ViTConfig):
    """Of ``transformers.SiglipVisionConfig``, with its defaults."""

    intermediate_size: int = 3072
    hidden_act: str = "gelu_pytorch_tanh"
    vision_use_head: bool = True


@ENCODERS.register("siglip2")
class SigLIP2(HubTransformer):
    """The half that sees of a model of images and captions (Tschannen et al., arXiv 2502.14786): patch tokens; the head
    that pools them is loaded but not run. Models of other sizes and patches load as well, but not those of variable
    resolution (naflex)."""

    name = "siglip2"
    family = "semantic"
    source = Source(
        (FILE, CONFIG),
        megabytes=4542,
        licence="Apache-2.0",
        repository="google/siglip2-so400m-patch14-224",
        revision="78e403963a4f6a3640d07803284752326fdf4edf",
    )
    published = Architecture(
        channels=1152,
        patch=14,
        parameters=427_680_704,
        config=SigLIPConfig(1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, patch_size=14),
    )
    options_type = SigLIP2Options
    library = ("SiglipVisionConfig", "SiglipVisionModel")
    model_type = "siglip"  # only the models of variable resolution have a type of their own
    section, prefix = "vision_config", "vision_model."
    others = ("text_model.", "logit_scale", "logit_bias")

    def features(self, network: Any, images: Tensor) -> Tensor:
        patches = network.embeddings(images, interpolate_pos_encoding=True)
        tokens = network.encoder(inputs_embeds=patches).last_hidden_state
        if self.options.features == "after-norm":
            tokens = network.post_layernorm(tokens)
        return rearrange(tokens, "N (h w) C -> N h w C", h=self.spec.grid[0])


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


def _shapes(file: Path) -> dict[str, list[int]]:
    """Of all tensors of a model, from the headers of its files."""
    shapes: dict[str, list[int]] = {}
    for path in _files(file):
        with opened(path) as content:
            shapes |= {name: content.get_slice(name).get_shape() for name in content.keys()}  # noqa: SIM118
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
