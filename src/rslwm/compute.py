"""How a run computes: device, precision, and one random stream a concern."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

from rslwm.config import ComputeConfig
from rslwm.serialisation import ConfigError


def device(config: ComputeConfig) -> torch.device:
    """The device that the configuration asks for.

    Raises:
        ConfigError: it isn't there, or isn't the name of a device.
    """
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(config.device)
    except RuntimeError:
        raise ConfigError(f"compute.device: {config.device!r} is not auto, cpu, cuda, cuda:N or mps") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"compute.device is {config.device!r}, but {torch.cuda.device_count()} CUDA devices are visible; "
            "use cpu or auto"
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("compute.device is 'mps', but this machine has none; use cpu or auto")
    return chosen


def precision(config: ComputeConfig) -> torch.dtype:
    """The dtype of matrix products."""
    if config.dtype != "auto":
        return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    if device(config).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast(config: ComputeConfig) -> contextlib.AbstractContextManager:
    """Autocast to :func:`precision`; nothing where that is float32."""
    dtype = precision(config)
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device(config).type, dtype)


def generator(seed: int, concern: str, step: int = 0) -> torch.Generator:
    """A CPU generator for one concern at one step.

    Streams are functions of (seed, concern, step) and of nothing else: a resumed run draws what the uninterrupted one
    would have drawn, and no concern's draws move another's.
    """
    digest = hashlib.sha256(f"{seed}/{concern}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextlib.contextmanager
def seeded(seed: int, concern: str) -> Iterator[None]:
    """Initial weights drawn inside depend on (seed, concern) only; the global stream is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator(seed, concern).initial_seed())
        yield
