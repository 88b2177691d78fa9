"""A latent space: the only thing that differs between the rows of a study."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from rslwm import serialisation
from rslwm.files import read_json
from rslwm.latents.adapters.base import Adapter, AdapterConfig
from rslwm.latents.adapters.kinds import MLP, PCA, SVAE
from rslwm.latents.base import ENCODERS, Encoder, EncoderConfig
from rslwm.latents.decoder import DecoderConfig, PixelDecoder, SubPixelDecoder
from rslwm.latents.ldm_decoder import LDMDecoder
from rslwm.latents.normaliser import Normaliser
from rslwm.latents.views import apart, side_by_side, to_float
from rslwm.registry import UnknownName
from rslwm.serialisation import ConfigError, known_by, parse_yaml
from rslwm.shipping import located
from rslwm.tensors import read_weights, take_weights, write_tensors
from rslwm.types import DataError, Family, LatentSpec

ADAPTERS: dict[str, type[Adapter]] = {"svae": SVAE, "mlp": MLP, "pca": PCA}
"""By ``AdapterConfig.kind``."""
DECODERS: dict[str, type[PixelDecoder]] = {"sub-pixel": SubPixelDecoder, "ldm": LDMDecoder}
"""By ``DecoderConfig.kind``."""

RECORD, SPACE_FILE = "encoder.json", "space.yaml"
_BEFORE_DECODER = ("decoder_adapter.", "decoder_normaliser.")


EXTERNAL = "external"
"""What a space's reference says if its encoder is one of these."""


@dataclass(frozen=True)
class ExternalConfig:
    """What is known of features that come from elsewhere."""

    name: str = ""
    family: Family = "semantic"
    grid: tuple[int, int] = (16, 16)
    """Rows and columns of one view's features."""
    channels: int = 0


class ExternalEncoder(Encoder):
    """Knows what features look like that another program makes, and can't make them: its space can be generated in and
    decoded without the network behind it."""

    def __init__(self, external: ExternalConfig, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        size, record = (external.grid, external.channels), {"encoder": "another program"}
        self.spec = LatentSpec(external.name, external.family, *size, licence="unknown", preprocessing=record)

    def encode(self, frames: Tensor) -> Tensor:
        """Raises :class:`DataError`; the message says what to do instead."""
        raise DataError(
            f"{self.spec.name}: frames can't be encoded here, the network isn't part of this space. Make its features "
            "(B, T, h, w, C) elsewhere and give them to world_model.space.compress(features)"
        )


def _without_folders(options: dict[str, str]) -> dict[str, str]:
    return {name: text.rpartition("/")[2] for name, text in options.items()}


@dataclass(frozen=True)
class SpaceConfig:
    """Everything that rebuilds a latent space. ``channels`` 0 is the native space; ``decode`` False has no pixels."""

    reference: str = field(metadata=known_by(lambda name: name.rpartition("/")[2]))
    """A name of the registry, path/to/file.py:Class, or external."""
    image_size: int
    channels: int = 0
    decode: bool = False
    decoder_channels: int = 0
    """Compress a native space to this many channels before its pixels are decoded, as the paper does; 0 doesn't."""
    views: int = 1
    """Camera views side by side in a frame; image_size is the side of one."""
    options: dict[str, str] = field(default_factory=dict, metadata=known_by(_without_folders))
    """Choices of the encoder that aren't its defaults, see :attr:`Encoder.options_type`."""
    external: ExternalConfig = field(default_factory=ExternalConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


class PixelPath(nn.Module):
    """The way from latents to pixels that a space has, or lacks."""

    def settings(self) -> dict[str, Any]:
        """The fields of :class:`rslwm.latents.space.SpaceConfig` that rebuild it."""
        raise NotImplementedError

    def forward(self, latents: Tensor, space: LatentSpace) -> Tensor:
        """Normalised latents of single views (B, T, h, w, C) -> (B, T, H, W, 3), [0, 1] up to what a network
        overshoots."""
        raise NotImplementedError


class TrainedDecoder(PixelPath):
    """A pixel decoder that was trained on the space's own latents."""

    def __init__(self, decoder: PixelDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def settings(self) -> dict[str, Any]:
        return {"decoder": self.decoder.config, "decoder_channels": 0}

    def forward(self, latents: Tensor, space: LatentSpace) -> Tensor:
        return self.decoder(latents)


class OwnDecoder(PixelPath):
    """The decoder that the encoder brings along; nothing of it is the space's to keep."""

    def settings(self) -> dict[str, Any]:
        return {"decoder": DecoderConfig(own=True), "decoder_channels": 0}

    def forward(self, latents: Tensor, space: LatentSpace) -> Tensor:
        return space.encoder.decode(space.restore(latents))


class TwinDecoder(PixelPath):
    """The pixel decoder of a compressed space of the same encoder, behind that one's adapter and normaliser."""

    def __init__(self, adapter: Adapter, normaliser: Normaliser, decoder: PixelDecoder) -> None:
        super().__init__()
        self.adapter, self.normaliser, self.decoder = adapter, normaliser, decoder

    @classmethod
    def of(cls, twin: LatentSpace) -> Self:
        """That of this space, which has an adapter and a decoder that was trained on its latents."""
        assert twin.adapter is not None
        assert isinstance(twin.pixels, TrainedDecoder)
        return cls(twin.adapter, twin.normaliser, twin.pixels.decoder)

    def settings(self) -> dict[str, Any]:
        config, adapter = self.decoder.config, self.adapter
        return {"decoder": config, "decoder_channels": adapter.channels, "adapter": adapter.config}

    def forward(self, latents: Tensor, space: LatentSpace) -> Tensor:
        return self.decoder(self.normaliser(self.adapter.encode(space.restore(latents))))


class LatentSpace(nn.Module):
    """Encoder, optional adapter, per-channel normaliser and optional pixel decoder.

    Latents are (B, T, h, w, C), with zero mean and unit variance per channel over the training episodes. Encoder,
    adapter and decoder see one view at a time; with several, frames and latents hold them side by side in the width.
    ``spec`` is of all views together, ``view_spec`` of one.
    """

    def __init__(self, config: SpaceConfig, encoder: Encoder | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder or open_encoder(config)
        native = self.encoder.spec
        self.adapter = open_adapter(config.adapter, native.channels, config.channels) if config.channels else None
        self.view_spec: LatentSpec = native if not self.adapter else _adapted(native, config.channels, self.adapter)
        h, w = native.grid
        self.spec = replace(self.view_spec, grid=(h, config.views * w))
        self.normaliser = Normaliser(self.spec.channels)
        self.pixels = self._open_pixels()

    def _open_pixels(self) -> PixelPath | None:
        config, native = self.config, self.encoder.spec
        if not config.decode:
            return None
        if config.decoder.own and self.encoder.decodes:
            return OwnDecoder()
        if not (channels := config.decoder_channels):
            return TrainedDecoder(open_decoder(config.decoder, self.view_spec, config.image_size))
        adapter = open_adapter(config.adapter, native.channels, channels)
        decoder = open_decoder(config.decoder, replace(native, channels=channels), config.image_size)
        return TwinDecoder(adapter, Normaliser(channels), decoder)

    def set_pixels(self, pixels: PixelPath) -> None:
        """From now on, decode this way."""
        self.config = replace(self.config, decode=True, **pixels.settings())
        self.pixels = pixels

    def encode(self, frames: Tensor) -> Tensor:
        """(B, T, H, W, 3), float in [0, 1] or uint8 as stores hold them -> normalised latents (B, T, h, w, C)."""
        return self.normaliser(self.compress(self.features(frames)))

    def encode_features(self, features: Tensor) -> Tensor:
        """Native features (B, T, h, w, D), also in the precision of a store -> normalised latents (B, T, h, w, C)."""
        return self.normaliser(self.compress(features.float()))

    def features(self, frames: Tensor) -> Tensor:
        """(B, T, H, W, 3), float in [0, 1] or uint8 -> what the encoder makes of every view, (B, T, h, w, C), not
        normalised; raises ValueError if the frames are no square views, as many as the space has."""
        (height, width), views = frames.shape[2:4], self.config.views
        if width != views * height:
            raise ValueError(f"{self.spec.name} reads {views} square view(s) side by side, not {height} x {width} px")
        return self._each_view(self.encoder.encode, to_float(frames) if frames.dtype == torch.uint8 else frames)

    def compress(self, features: Tensor) -> Tensor:
        """Native features to the space's own channels, not normalised; the identity without an adapter."""
        return self._each_view(self.adapter.encode, features) if self.adapter else features

    def restore(self, latents: Tensor) -> Tensor:
        """Normalised latents of single views (B, T, h, w, C) -> native features (B, T, h, w, D), as good as they were
        kept: the inverse of :meth:`encode_features`."""
        features = self.normaliser.inverse(latents)
        return self.adapter.decode(features) if self.adapter else features

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (B, T, h, w, C) -> frames (B, T, H, W, 3) in [0, 1]; raises :class:`DataError` if the
        space has no pixel decoder."""
        if self.pixels is None:
            raise DataError(f"{self.spec.name} has no pixel decoder; train one with `rslwm latents train`")
        return self._each_view(partial(self.pixels, space=self), latents).clamp(0, 1)

    def _each_view(self, transform: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return side_by_side(transform(apart(x, self.config.views)), self.config.views)

    def save(self, folder: Path) -> None:
        """Write ``space.yaml``, ``encoder.json`` (who made the latents) and ``space.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        serialisation.dump(self.config, folder / SPACE_FILE)
        (folder / RECORD).write_text(json.dumps(serialisation.to_dict(self.encoder.spec), indent=1))
        write_tensors({_in_file(name): x for name, x in self.state_dict().items()}, folder / "space.safetensors")

    @classmethod
    def load(cls, folder: Path | str) -> LatentSpace:
        """Rebuild a space from its folder, or the one in a world model's folder, or by a shipped name; strictly.

        Raises:
            ConfigError: ``space.yaml`` is missing or can't be read, or ``encoder.json`` describes no latent space.
            DataError: ``encoder.json`` is missing; the weights are others than the configuration asks for; the encoder
                that is found isn't the one that made the latents, or its code would come with the folder.
            UnknownName: the encoder's plug-in file is no longer where it was, or nothing of that name is shipped.
        """
        folder = space_folder(folder)
        config = serialisation.load(SpaceConfig, folder / SPACE_FILE)
        _require_own_code(config.reference, folder)
        try:
            encoder = open_encoder(config)
        except UnknownName as error:
            raise UnknownName(f"{folder / SPACE_FILE}: {error}") from None
        record = folder / RECORD
        encoder.take_place(serialisation.from_dict(LatentSpec, read_json(record), str(record)), record)
        space = cls(config, encoder)
        tensors = read_weights(path := folder / "space.safetensors")
        if {name.split(".")[1] for name in tensors if name.startswith("encoder.")}.isdisjoint(encoder.scaffold):
            encoder.take_down()  # before it was saved
        if space.pixels is None:  # spaces were saved that have these, but no decoder behind them
            tensors = {name: x for name, x in tensors.items() if not name.startswith(_BEFORE_DECODER)}
        take_weights(space, tensors, path, _in_file)
        return space.eval()


def space_folder(named: Path | str) -> Path:
    """Of the space that a path or a shipped name leads to: that folder itself or, of a world model's, the one in it.
    There need be none; raises what :func:`rslwm.shipping.located` raises."""
    folder = located(named)
    within = folder / "space"
    return within if (within / SPACE_FILE).is_file() and not (folder / SPACE_FILE).is_file() else folder


def _in_file(name: str) -> str:
    """What files call a tensor: they are older than the one module that makes pixels."""
    part, _, rest = name.partition(".")
    return name if part != "pixels" else rest if rest.startswith("decoder.") else f"decoder_{rest}"


def _require_own_code(reference: str, folder: Path) -> None:
    """A folder may be somebody else's: it can name a plug-in of this machine's, but not bring one along."""
    path = Path(reference.rpartition(".py:")[0])
    if ".py:" in reference and (not path.is_absolute() or path.resolve().is_relative_to(folder.resolve())):
        what = f"reference is {reference!r}, code that would come with the folder"
        raise DataError(f"{folder / SPACE_FILE}: {what}; if you trust it, put it elsewhere and write its absolute path")


def describe(config: SpaceConfig) -> LatentSpace:
    """A space to look at, untrained and without published weights: all but its encoder is on the meta device. Raises
    ValueError if it can't be built."""
    try:
        encoder = open_encoder(config)
        with torch.device("meta"):
            return LatentSpace(config, encoder)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # sizes that no tensor can have
        why = str(error).partition("\n")[0][:200]
        raise ConfigError(f"the latent space {config.reference} can't be built with these sizes: {why}") from None


def open_encoder(config: SpaceConfig) -> Encoder:
    """The encoder of a space, untrained; raises :class:`ConfigError` for options that its class can't take."""
    if config.reference == EXTERNAL:
        return ExternalEncoder(config.external, config.encoder, config.image_size)
    encoder = ENCODERS.get(config.reference)
    if encoder.options_type is None:
        if config.options:
            raise ConfigError(f"{config.reference} has no options, but {config.options} is given; leave [...] out")
        return encoder(config.encoder, config.image_size)
    values = {name: parse_yaml(text, f"{config.reference}[{name}]") for name, text in config.options.items()}
    options: Any = serialisation.from_dict(encoder.options_type, values, f"{config.reference}[...]")
    return encoder(config.encoder, config.image_size, options)  # type: ignore[call-arg]


def open_decoder(config: DecoderConfig, spec: LatentSpec, image_size: int) -> PixelDecoder:
    """An untrained decoder of the configured kind; raises ValueError if it can't make such frames of such a grid."""
    return DECODERS[config.kind](config, spec, image_size)


def open_adapter(config: AdapterConfig, width: int, channels: int) -> Adapter:
    """An untrained adapter of the configured kind, from ``width`` to ``channels``; raises ValueError if it can't be."""
    return ADAPTERS[config.kind](config, width, channels)


def _adapted(native: LatentSpec, channels: int, adapter: Adapter) -> LatentSpec:
    return replace(
        native,
        name=f"{native.name}+{channels}",
        channels=channels,
        parameters=native.parameters + sum(x.numel() for x in adapter.encoder_tensors),
        preprocessing={**native.preprocessing, "adapter": f"{adapter.label} to {channels} channels"},
    )
