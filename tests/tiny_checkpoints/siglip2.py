"""SigLIP 2 as published: a folder of the hub that holds both towers and what joins them."""

from pathlib import Path

from rslwm.compute import seeded

CHANNELS = 32


def write(folder: Path, patch: int = 14) -> Path:
    """A tiny random checkpoint below ``folder``/siglip2/, for images of 4 x 4 patches."""
    from transformers import SiglipConfig, SiglipModel

    width = {"hidden_size": CHANNELS, "intermediate_size": 48, "num_attention_heads": 2}
    vision = width | {"num_hidden_layers": 2, "image_size": 4 * patch, "patch_size": patch}
    text = width | {"num_hidden_layers": 1, "vocab_size": 8, "bos_token_id": 2, "eos_token_id": 3}
    with seeded(0, "tiny siglip2"):
        SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder / "siglip2")
    return folder / "siglip2"
