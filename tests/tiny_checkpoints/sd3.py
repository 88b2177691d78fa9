"""SD3's autoencoder as published: a folder of the hub, with half-precision weights and the library's configuration."""

from pathlib import Path

from rslwm.compute import seeded

CHANNELS = 4


def write(folder: Path) -> Path:
    """A tiny random checkpoint below ``folder``/sd3-vae/."""
    from diffusers import AutoencoderKL

    with seeded(0, "tiny sd3"):
        network = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 16),
            layers_per_block=1,
            latent_channels=CHANNELS,
            norm_num_groups=4,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    network.half().save_pretrained(folder / "sd3-vae" / "vae")
    return folder / "sd3-vae"
