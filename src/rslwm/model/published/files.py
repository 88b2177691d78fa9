"""Files of the published code (arXiv 2605.06388): ``DiT-*.pt``, and ``adapter_*.pt`` with the pixel decoder.

Sizes are inferred from the tensors. No code in a file is ever run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.model.dit import SIZES, DiTConfig, size_of
from rslwm.tensors import read_tensors
from rslwm.types import DataError


@dataclass(frozen=True)
class Network:
    """The tensors of one network in a file, under its own names."""

    path: Path
    tensors: dict[str, Tensor]

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """Of a tensor with so many axes; raises :class:`DataError` if it is missing or has others."""
        if name not in self.tensors:
            raise DataError(f"{self.path}: tensor {name!r} is missing")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != axes:
            raise DataError(f"{self.path}: tensor {name!r} is {shape}, expected {axes} axes")
        return shape

    def count(self, modules: str) -> int:
        """Members of a numbered list of modules."""
        numbered = re.compile(rf"{re.escape(modules)}\.(\d+)\.")
        return 1 + max((int(found[1]) for name in self.tensors if (found := numbered.match(name))), default=-1)


@dataclass(frozen=True)
class PublishedFile(Network):
    """All tensors of a file, by their path through its nested dictionaries, and the settings kept beside them."""

    settings: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Self:
        """What ``torch.save`` wrote; raises what :func:`read_tensors` raises."""
        content = read_tensors(path)
        settings = [value for key, value in content.items() if str(key).endswith("_config") and isinstance(value, dict)]
        return cls(path, dict(_tensors(content)), {k: v for part in settings for k, v in part.items()})

    def prefixes(self, marker: str) -> list[str]:
        """What stands before ``marker``, the name of a tensor that tells a network, wherever it occurs."""
        return [name.removesuffix(marker) for name in self.tensors if f".{name}".endswith(f".{marker}")]

    def network(self, kind: str, marker: str) -> Network:
        """The one that has a tensor called ``marker``, whatever prefix its names have; averaged weights first. Raises
        :class:`DataError` if there are several, or none."""
        found = self.prefixes(marker)
        if not found:
            names = ", ".join([*self.tensors][:8]) or "no tensor at all"
            raise DataError(f"{self.path} holds no {kind} (no tensor ...{marker}), but {names}")
        averaged = [prefix for prefix in found if "ema" in re.split(r"[._]", prefix)]
        prefix, *others = averaged or found
        if others:
            raise DataError(f"{self.path} holds several sets of weights, {found}; keep one of them")
        named = {name.removeprefix(prefix): x for name, x in self.tensors.items() if name.startswith(prefix)}
        return Network(self.path, named)


def _tensors(content: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _tensors(value, f"{path}.{key}" if path else str(key))


@dataclass(frozen=True)
class PublishedDiT(Network):
    """A transformer; its configuration lacks what the file can't tell."""

    config: DiTConfig
    channels: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``DiT-*.pt``; raises :class:`DataError` if it can't be read or holds no transformer."""
        found = PublishedFile.read(path).network("transformer", "x_proj.weight")
        width, channels, patch, _ = found.shape("x_proj.weight", 4)
        config = DiTConfig(
            width=width,
            depth=found.count("blocks"),
            patch=patch,
            wide_head=found.shape("s_projector.weight", 2)[0] if "s_projector.weight" in found.tensors else 0,
            view_order="interleaved",
            action_inputs=found.shape("action_embedder.weight", 2)[1],
        )
        return cls(path, found.tensors, config, channels)

    def __str__(self) -> str:
        head = f"wide head {self.config.wide_head}" if self.config.wide_head else "plain head"
        return f"a {size_of(self.config)} on {self.channels} channels, patch {self.config.patch}, {head}"

    @property
    def usual_heads(self) -> int:
        """As many as the paper's model of this size has; heads of 64 channels at another size."""
        size = SIZES.get(size_of(self.config).removeprefix("DiT-"))
        return size.heads if size else max(1, self.config.width // 64)


@dataclass(frozen=True)
class PublishedAdapter(Network):
    """An S-VAE adapter and, if the file has one, the pixel decoder of its latents.

    ``heads``, ``decoder_heads`` and ``encoder``, what the published code calls it, are what the training code wrote
    beside the weights, if it did: tensors don't tell.
    """

    config: AdapterConfig
    width: int
    channels: int
    pixels: Network | None
    decoder: DecoderConfig
    heads: int | None
    decoder_heads: int | None
    encoder: str | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``adapter_*.pt``; raises :class:`DataError` if it can't be read or holds no S-VAE adapter."""
        file = PublishedFile.read(path)
        found = file.network("S-VAE adapter", "enc_proj.weight")
        pixels = file.network("pixel decoder", _PIXELS) if file.prefixes(_PIXELS) else None
        if (activation := file.settings.get("output_activation", "sigmoid")) != "sigmoid":
            raise DataError(f"{path}: output_activation is {activation!r}; the paper's decoder ends in a sigmoid")
        moments, width = found.shape("enc_proj.weight", 2)
        hidden, _ = found.shape("enc_blocks.0.intermediate.dense.weight", 2)
        config = AdapterConfig(blocks=found.count("enc_blocks"), hidden=hidden)
        decoder = _decoder_config(pixels) if pixels else DecoderConfig()
        said = (file.settings.get(name) for name in ("adapter_num_heads", "attn_heads", "encoder_type"))
        return cls(path, found.tensors, config, width, moments // 2, pixels, decoder, *said)

    def __str__(self) -> str:
        text = f"an adapter from {self.width} to {self.channels} channels"
        return text + (f" with a pixel decoder of base width {self.decoder.width}" if self.pixels else "")


_PIXELS = "mid_block1.conv1.weight"


def _decoder_config(weights: Network) -> DecoderConfig:
    (base,) = weights.shape("norm_out.weight", 1)
    levels = range(weights.count("up_levels"))
    widths = [weights.shape(f"up_levels.{i}.blocks.0.conv1.weight", 4)[0] for i in reversed(levels)]
    multipliers = tuple(width // base for width in widths)
    return DecoderConfig(kind="ldm", width=base, multipliers=multipliers, blocks=weights.count("up_levels.0.blocks"))
