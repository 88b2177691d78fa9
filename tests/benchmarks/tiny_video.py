"""Episodes small enough to be encoded in milliseconds, as settings and as flags."""

from typing import Any

from benchmarks.straightforward.encoder import ViTConfig

ENCODER = {"width": 16, "depth": 2, "heads": 2, "patch": 8}
VIDEO = {"grid": 4, "channels": 6, "frames": 3, "image_size": 32, "episodes": 2, "length": 7}

TINY: dict[str, Any] = {**VIDEO, "encoder": ViTConfig(**ENCODER), "device": "cpu", "dtype": "float32"}


def flags(**values: int) -> list[str]:
    """The command line that asks for the tiny episodes and these values."""
    every = VIDEO | {f"encoder.{name}": value for name, value in ENCODER.items()} | values
    return ["--device=cpu", *(f"--{name.replace('_', '-')}={value}" for name, value in every.items())]
