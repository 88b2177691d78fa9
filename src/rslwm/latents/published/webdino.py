"""Web-DINO: DINOv2's objective on two billion images of the web (Fan et al., arXiv 2504.01017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from einops import rearrange
from torch import Tensor

from rslwm.latents.base import ENCODERS
from rslwm.latents.published.hub_folder import CONFIG, FILE, HubArchitecture, HubTransformer
from rslwm.latents.published.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from rslwm.latents.published.weights import Source


@dataclass(frozen=True)
class DINOConfig:
    """Of ``transformers.Dinov2Config``, with its defaults."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: int = 4
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    image_size: int = 224
    """Pixels of a side that the position embedding was trained for; it is interpolated to others."""
    patch_size: int = 14
    qkv_bias: bool = True
    use_swiglu_ffn: bool = False
    use_mask_token: bool = True


@ENCODERS.register("web-dino")
class WebDINO(HubTransformer):
    """Patch tokens after the last norm, without the class token. The larger models load as well.

    It is the size of a ViT-L with gated feed-forward layers, which are a little larger than the plain ones.
    """

    name = "web-dino"
    family = "semantic"
    source = Source(
        (FILE, CONFIG),
        megabytes=1215,
        licence="CC-BY-NC-4.0",
        repository="facebook/webssl-dino300m-full2b-224",
        revision="8529cdb3fb75014932af3b896455fc21c386168e",
    )
    published = HubArchitecture(
        channels=1024,
        patch=14,
        parameters=303_655_168,
        config=DINOConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, use_swiglu_ffn=True),
    )
    library = ("Dinov2Config", "Dinov2Model")
    model_type = "dinov2"
    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def features(self, network: Any, images: Tensor) -> Tensor:
        tokens = network(images).last_hidden_state
        return rearrange(tokens[:, 1:], "N (h w) C -> N h w C", h=self.spec.grid[0])
