"""The published variational autoencoders: those of Stable Diffusion 3 and VA-VAE."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.files import read_json
from rslwm.latents.base import ENCODERS
from rslwm.latents.published.base import Architecture, Options, PublishedAutoencoder, blank, import_library, require
from rslwm.latents.published.weights import Source, Weights
from rslwm.tensors import load_weights, read_tensors, require_shapes, take_weights, tensors_in
from rslwm.types import DataError

Posterior = Literal["mode", "sample"]


@dataclass(frozen=True)
class KLOptions(Options):
    posterior: Posterior = "mode"
    """Mean of the posterior, or one draw from it (the paper's code: sample)."""


class KLAutoencoder(PublishedAutoencoder):
    """A KL autoencoder of the Stable Diffusion line, whose architecture has the configuration of
    ``diffusers.AutoencoderKL``. A subclass implements ``measure``, ``load`` and ``affine``."""

    options_type = KLOptions

    @property
    def affine(self) -> tuple[Tensor, Tensor]:
        """Shift and scale from the posterior's latents z to ours, (z - shift) * scale; broadcast to (N, C, h, w)."""
        raise NotImplementedError

    def build(self, architecture: Architecture) -> nn.Module:
        return import_library(self.name, "diffusers", "encoders").AutoencoderKL.from_config(architecture.config)

    def sized(self, config: Mapping[str, Any]) -> Architecture:
        """The architecture of a network with this configuration."""
        patch = 2 ** (len(config["block_out_channels"]) - 1)
        architecture = Architecture(config["latent_channels"], patch, 0, config)
        with torch.device("meta"):
            network: Any = self.build(architecture)
        parts = [part for part in (network.encoder, network.quant_conv) if part is not None]
        parameters = sum(p.numel() for part in parts for p in part.parameters())
        return Architecture(architecture.channels, patch, parameters, config)

    def features(self, network: Any, images: Tensor) -> Tensor:
        posterior = network.encode(images).latent_dist
        z = latent(posterior.mean.float(), posterior.std.float(), images, self.options.posterior)
        shift, scale = (x.to(z.device) for x in self.affine)
        return rearrange((z - shift) * scale, "N C h w -> N h w C")

    def images(self, network: Any, latents: Tensor) -> Tensor:
        shift, scale = (x.to(latents.device) for x in self.affine)
        z = rearrange(latents.float(), "N h w C -> N C h w") / scale + shift
        return network.decode(z.to(latents.dtype)).sample


def latent(mean: Tensor, std: Tensor, images: Tensor, kind: Posterior) -> Tensor:
    """Latents (N, ...) of images (N, ...). A draw depends on nothing but its image: a frame has the same latent
    whenever, and beside whatever, it is encoded."""
    if kind == "mode" or images.is_meta:  # where operations are only counted there is no image to draw for
        return mean
    noise = torch.stack([_noise(image, mean.shape[1:]) for image in images])
    return mean + std * noise.to(mean)


def _noise(image: Tensor, shape: torch.Size) -> Tensor:
    content = image.float().cpu().numpy().tobytes()
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CONFIG = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


@dataclass(frozen=True)
class SD3Options(KLOptions):
    shift: bool = True
    """Subtract the published shift before scaling (the paper's code: no)."""


@ENCODERS.register("sd3-vae")
class SD3VAE(KLAutoencoder):
    """At an eighth of the resolution (Esser et al., arXiv 2403.03206): 32 x 32 x 16 latents of 256 px frames."""

    name = "sd3-vae"
    family = "reconstruction"
    source = Source(
        ("vae/diffusion_pytorch_model.safetensors", "vae/config.json"),
        megabytes=168,
        licence="Stability AI Community (gated)",
        repository="stabilityai/stable-diffusion-3-medium-diffusers",
        revision="ea42f8cef0f178587cf766dc8129abd379c90671",
    )
    published = Architecture(channels=16, patch=8, parameters=34_274_208, config=CONFIG)
    options_type = SD3Options

    def measure(self, weights: Weights) -> Architecture:
        path = weights.file.with_name("config.json")
        config = read_json(path)
        require(config.get("_class_name") == "AutoencoderKL", weights, f"{path.name} beside it is of no AutoencoderKL")
        for key, usual in CONFIG.items():
            require(key in config, weights, f"{path.name} beside it lacks {key!r}")
            kind = type(usual) if config[key] is not None or key != "shift_factor" else type(None)
            require(type(config[key]) is kind, weights, f"{path.name} beside it has {key} {config[key]!r:.80}")
        groups = config.get("norm_num_groups", 32)
        require(type(groups) is int, weights, f"{path.name} beside it has norm_num_groups {groups!r:.80}")
        return self.sized(config)

    def load(self, weights: Weights) -> nn.Module:
        network = blank(lambda: self.build(self.architecture))
        load_weights(network, weights.file)
        return network

    @property
    def affine(self) -> tuple[Tensor, Tensor]:
        config = self.architecture.config
        shift = (config["shift_factor"] or 0.0) if self.options.shift else 0.0
        return torch.tensor(shift), torch.tensor(config["scaling_factor"])


LEVELS = 5
"""Resolutions of the network, each half of the one before."""
GROUPS = 32
"""Of its group norms; every width is a multiple."""
PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
"""The autoencoder's tensors. The file is of the whole training: DINOv2 and the networks of the losses are in it too."""
STATISTICS = "latents_stats.pt"

_LDM_NAMES = (
    ("mid_block.resnets.0.", "mid.block_1."),
    ("mid_block.resnets.1.", "mid.block_2."),
    ("mid_block.attentions.0.", "mid.attn_1."),
    ("down_blocks.", "down."),
    (".resnets.", ".block."),
    (".attentions.", ".attn."),
    (".downsamplers.0.", ".downsample."),
    (".upsamplers.0.", ".upsample."),
    (".conv_shortcut.", ".nin_shortcut."),
    (".conv_norm_out.", ".norm_out."),
    (".group_norm.", ".norm."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".to_out.0.", ".proj_out."),
)


@dataclass(frozen=True)
class VAVAEOptions(KLOptions):
    normalise: bool = False
    """Apply the published mean and deviation of every channel, of ImageNet (the paper's code: no)."""


def _config(widths: Sequence[int], channels: int) -> dict[str, Any]:
    """Attention is at the coarsest level only."""
    plain = LEVELS - 1
    return {
        "block_out_channels": list(widths),
        "down_block_types": ["DownEncoderBlock2D"] * plain + ["AttnDownEncoderBlock2D"],
        "up_block_types": ["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * plain,
        "layers_per_block": 2,
        "latent_channels": channels,
        "norm_num_groups": GROUPS,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
    }


@ENCODERS.register("va-vae")
class VAVAE(KLAutoencoder):
    """At a sixteenth of the resolution, its latents aligned with DINOv2's (Yao et al., arXiv 2501.01423): 16 x 16 x 32
    latents of 256 px frames."""

    name = "va-vae"
    family = "reconstruction"
    source = Source(
        ("vavae-imagenet256-f16d32-dinov2.pt",),
        megabytes=2150,
        licence="MIT",
        repository="hustvl/vavae-imagenet256-f16d32-dinov2",
    )
    published = Architecture(32, patch=16, parameters=28_417_408, config=_config((128, 128, 256, 256, 512), 32))
    options_type = VAVAEOptions

    _statistics = (torch.zeros(()), torch.ones(()))
    """Mean and deviation of the latents, each (1, C, 1, 1) once they are loaded."""

    def needed(self) -> Source:
        files = (*self.source.files, STATISTICS) if self.options.normalise else self.source.files
        return replace(self.source, files=files)

    def measure(self, weights: Weights) -> Architecture:
        tensors = _autoencoder(weights.file)
        names = [f"encoder.down.{level}.block.0.conv1.weight" for level in range(LEVELS)]
        for name in (*names, "post_quant_conv.weight"):
            require(name in tensors, weights, f"tensor {name!r} is missing")
            shape = tuple(tensors[name].shape)
            require(len(shape) == 4, weights, f"tensor {name!r} is {shape}, expected a convolution's weight")
            of_groups = name not in names or shape[0] % GROUPS == 0
            require(of_groups, weights, f"tensor {name!r} is {shape}, expected a multiple of {GROUPS} channels")
        widths = [len(tensors[name]) for name in names]
        return self.sized(_config(widths, len(tensors["post_quant_conv.weight"])))

    def load(self, weights: Weights) -> nn.Module:
        network = blank(lambda: self.build(self.architecture))
        tensors = {name: _as_matrix(name, x) for name, x in _autoencoder(weights.file).items()}
        take_weights(network, tensors, weights.file, ldm_name)
        if self.options.normalise:
            self._statistics = _read_statistics(weights.file.with_name(STATISTICS), self.architecture.channels)
        return network

    @property
    def affine(self) -> tuple[Tensor, Tensor]:
        mean, deviation = self._statistics
        return mean, 1 / deviation


def ldm_name(name: str) -> str:
    """The file's name, which is latent diffusion's, of a tensor of ``diffusers.AutoencoderKL``; the decoder's levels
    are counted from its output in the file, from its input in the library."""
    name = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{LEVELS - 1 - int(match[1])}", name)
    for ours, theirs in _LDM_NAMES:
        name = name.replace(ours, theirs)
    return name


def _autoencoder(path: Path) -> dict[str, Tensor]:
    """Its tensors by the file's names, from a Lightning checkpoint or a plain state dict."""
    content = read_tensors(path)
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise DataError(f"{path}: 'state_dict' is a {type(state).__name__}, expected a dictionary of tensors")
    return tensors_in(state, path, PARTS)


def _as_matrix(name: str, x: Tensor) -> Tensor:
    """Attention's projections are 1 x 1 convolutions in the file and matrices in the library."""
    return x.flatten(1) if ".attn" in name and x.shape[2:] == (1, 1) else x


def _read_statistics(path: Path, channels: int) -> tuple[Tensor, Tensor]:
    tensors = tensors_in(read_tensors(path), path)
    require_shapes(tensors, dict.fromkeys(("mean", "std"), (1, channels, 1, 1)), path)
    if not (tensors["std"] > 0).all():
        raise DataError(f"{path}: tensor 'std' has values that are not positive")
    return tensors["mean"].float(), tensors["std"].float()
