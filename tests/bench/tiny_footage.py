"""Footage small enough to be encoded in milliseconds, as a configuration and as flags."""

from rslwm.bench.config import FootageConfig, ViTConfig

ENCODER = {"width": 16, "depth": 2, "heads": 2, "patch": 8}
FOOTAGE = {"grid": 4, "channels": 6, "frames": 3, "image_size": 32, "episodes": 2, "length": 7}

TINY = FootageConfig(**FOOTAGE, encoder=ViTConfig(**ENCODER))


def flags(**values: int) -> list[str]:
    """The command line that asks for the tiny footage and these values."""
    every = FOOTAGE | {f"encoder.{name}": value for name, value in ENCODER.items()} | values
    return [f"--{name.replace('_', '-')}={value}" for name, value in every.items()]
