"""SigLIP 2: the half that sees of a model of images and their captions (Tschannen et al., arXiv 2502.14786)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from einops import rearrange
from torch import Tensor

from rslwm.latents.base import ENCODERS
from rslwm.latents.published.base import Options
from rslwm.latents.published.hub_folder import CONFIG, FILE, HubArchitecture, HubTransformer
from rslwm.latents.published.weights import Source


@dataclass(frozen=True)
class SigLIP2Options(Options):
    features: Literal["before-norm", "after-norm"] = "before-norm"
    """Patch tokens of the last layer before its norm (the paper's code) or after it, where the library's own
    ``last_hidden_state`` is taken."""


@dataclass(frozen=True)
class SigLIPConfig:
    """Of ``transformers.SiglipVisionConfig``, with its defaults."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    image_size: int = 224
    """Pixels of a side that the position embedding was trained for; it is interpolated to others."""
    patch_size: int = 16
    vision_use_head: bool = True


@ENCODERS.register("siglip2")
class SigLIP2(HubTransformer):
    """Patch tokens; the head that pools them is loaded but not run. Models of other sizes and patches load as well,
    but not those of variable resolution (naflex)."""

    name = "siglip2"
    family = "semantic"
    source = Source(
        (FILE, CONFIG),
        megabytes=4542,
        licence="Apache-2.0",
        repository="google/siglip2-so400m-patch14-224",
        revision="78e403963a4f6a3640d07803284752326fdf4edf",
    )
    published = HubArchitecture(
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
