"""How a run computes: device, precision, and one random stream a concern."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from rslwm import caches
from rslwm.serialisation import OPERATIONAL, UNNAMED, ConfigError, known_by


@dataclass(frozen=True)
class ComputeConfig:
    """Where and in which precision a run computes. All of it can change the last digits of a result."""

    device: str = field(default="auto", metadata=known_by(lambda name: name.partition(":")[0]))
    """Where to compute: cpu, cuda, cuda:1, mps, or auto, which is cuda where there is one and else cpu."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of matrix products in training and rollouts; auto is bfloat16 where the hardware is faster at it."""
    compile: bool = False
    """Compile the transformer with torch.compile, which pays off from minutes of training upwards."""
    checkpoint_activations: bool = False
    """Recompute the transformer's activations in the backward pass: a third more time, memory for one layer only."""
    threads: int = 1
    """CPU threads of one stage; stages run side by side on the cores. The number is fixed, so that results repeat."""
    world_size: int = field(default=1, metadata=UNNAMED)
    """Processes that share one training, each with a GPU of its own where there are GPUs. Every step's ``accumulate``
    batches are dealt out to them, so it divides world_model.optim.accumulate."""
    shard: bool = field(default=False, metadata=UNNAMED)
    """Split a world model's weights, gradients and moments over these processes (FSDP2), for sizes that one GPU can't
    hold; else each has all of them."""
    stage_minutes: float = field(default=0.0, metadata=OPERATIONAL)
    """Time limit of every stage: one that hangs fails after so many minutes, and goes on when it is run again; 0 is
    none."""


PEAK_SECONDS = 0.2
PEAKS = "peaks.json"
CPUINFO = Path("/proc/cpuinfo")


def device(config: ComputeConfig) -> torch.device:
    """What the configuration asks for; raises :class:`ConfigError` if it isn't there, or isn't a device's name."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(config.device)
    except RuntimeError:
        raise ConfigError(f"compute.device: {config.device!r} is not auto, cpu, cuda, cuda:N or mps") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        visible = f"{torch.cuda.device_count()} CUDA devices are visible"
        raise ConfigError(f"compute.device is {config.device!r}, but {visible}; use cpu or auto")
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


def resolved(config: ComputeConfig) -> ComputeConfig:
    """With the device and the dtype of this machine in the places of auto; raises what :func:`device` raises."""
    where = config.device if config.device != "auto" else str(device(config))
    dtype = "bfloat16" if precision(replace(config, device=where)) == torch.bfloat16 else "float32"
    return replace(config, device=where, dtype=dtype)  # type: ignore[arg-type]


def autocast(config: ComputeConfig) -> contextlib.AbstractContextManager:
    """Autocast to :func:`precision`; nothing where that is float32."""
    dtype = precision(config)
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device(config).type, dtype)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Rate of a square matrix product in FLOP/s, two a multiply-add: the ceiling of everything else.

    Of this machine and the current number of threads, as :func:`measure_peak` noted it, or measured now.
    """
    return _known_peak(device, dtype, torch.get_num_threads())


@functools.cache
def _known_peak(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    return caches.recall(PEAKS).get(_machine(device, dtype, threads)) or _measure(device, dtype, threads)


def measure_peak(config: ComputeConfig) -> None:
    """Measure for :func:`peak_flops`, for a fifth of a second and before other processes begin: what runs beside it
    lowers it. The best rate that the machine ever showed is kept in the cache."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        _measure(device(config), precision(config), config.threads)
    finally:
        torch.set_num_threads(before)


def _measure(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    known, machine = caches.recall(PEAKS), _machine(device, dtype, threads)
    rate = max(_product_rate(device, dtype), known.get(machine, 0.0))
    caches.note(PEAKS, {**known, machine: rate})
    return rate


def _machine(device: torch.device, dtype: torch.dtype, threads: int) -> str:
    """What a peak belongs to, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {dtype}"
    where = "" if CPUINFO.exists() else f"{device.type}, "
    return f"{processor()}, {where}{threads} threads, {dtype}"


def processor() -> str:
    """The name of the CPU."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or (platform.machine() if lines else platform.processor())


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    size = 2048 if device.type == "cpu" else 4096  # smaller ones don't fill two cores, or a GPU
    a, b = torch.rand(2, size, size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    synchronise = torch.get_device_module(device).synchronize
    best, began, runs = math.inf, time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - began < PEAK_SECONDS:
        synchronise()
        start = time.perf_counter()
        a @ b
        synchronise()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return 2 * size**3 / best


def generator(seed: int, concern: str, step: int = 0) -> torch.Generator:
    """A CPU generator for one concern at one step.

    Streams are functions of (seed, concern, step) and of nothing else: a resumed run draws what the uninterrupted one
    would have drawn, and no concern's draws move another's.
    """
    digest = hashlib.sha256(f"{seed}/{concern}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def redrawn(seed: int, number: int) -> int:
    """The seed of draw ``number`` of a concern under a study's seed, which is that of draw 0."""
    return seed + 1_000_003 * number


@contextlib.contextmanager
def seeded(seed: int, concern: str) -> Iterator[None]:
    """Initial weights drawn inside depend on (seed, concern) only; the global stream is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator(seed, concern).initial_seed())
        yield
