"""Web-DINO as published: a folder of the hub, with gated feed-forward layers and the library's older tensor names."""

from pathlib import Path

from rslwm.compute import seeded

CHANNELS = 32


def write(folder: Path, **saving: str) -> Path:
    """A tiny random checkpoint below ``folder``/web-dino/; ``saving`` goes to the library."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=CHANNELS,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        use_swiglu_ffn=True,
    )
    with seeded(0, "tiny web-dino"):
        Dinov2Model(config).save_pretrained(folder / "web-dino", **saving)
    return folder / "web-dino"
