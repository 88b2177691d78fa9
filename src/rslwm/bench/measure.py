"""Times pieces of work, side by side in one process, and measures their peak memory in processes of their own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from rslwm.compute import ComputeConfig, autocast
from rslwm.serialisation import ConfigError

Work = Callable[[], object]

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What Linux wants to read in ``clear_refs`` to forget the peak of the resident size."""


@dataclass(frozen=True)
class Measurement:
    """Runs of one piece of work."""

    name: str
    seconds: list[float]
    """Of every run, in order."""
    items: float
    """What one run makes, in ``unit``."""
    unit: str
    """Plural: frames, clips, plans."""
    flops: float | None = None
    """Floating-point operations of one run, two a multiply-add."""
    peak: float | None = None
    """Measured matrix-product peak of the machine in FLOP/s, in the precision of the work."""
    peak_bytes: int | None = None
    """Memory at the peak of a run, beyond what it starts from."""

    @property
    def rate(self) -> float:
        """Items a second, in the median run."""
        return self.items / median(self.seconds)

    @property
    def rates(self) -> list[float]:
        """Items a second, run by run."""
        return [self.items / seconds for seconds in self.seconds]

    @property
    def flop_rate(self) -> float | None:
        """FLOP/s in the median run."""
        return self.flops / median(self.seconds) if self.flops else None

    @property
    def share_of_peak(self) -> float | None:
        """The same as a share of the machine's peak."""
        return self.flop_rate / self.peak if self.flop_rate and self.peak else None

    def to_dict(self) -> dict[str, Any]:
        """The fields, and what follows from them for whoever reads the file without this package."""
        return {**asdict(self), "rate": self.rate, "share_of_peak": self.share_of_peak}


@dataclass(frozen=True)
class Case:
    """A piece of work, and what one run of it makes; see :class:`Measurement`."""

    name: str
    work: Work
    items: float
    unit: str
    flops: float | None = None
    peak: float | None = None
    before: Work = lambda: None
    """Runs before every run of the work and isn't timed."""
    warm_up: Work | None = None
    """Runs before the first round; the work itself if there is no other."""
    memory: Callable[[], Work] | None = None
    """What :func:`peak_bytes` asks for the work whose memory is told."""


def measure(cases: Sequence[Case], rounds: int) -> list[Measurement]:
    """Every case ``rounds`` times, in turns, so that whatever slows the machine down meets all alike.

    The order is reversed from round to round. Run i of one case may be compared with run i of another. Raises
    :class:`ConfigError` if there is not a single round.
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; a measurement needs at least 1")
    for case in cases:
        case.before()
        timed(case.warm_up or case.work)
    runs: list[list[float]] = [[] for _ in cases]
    for number in track(range(rounds), "rounds", console=Console(stderr=True), transient=True):
        for case, seconds in list(zip(cases, runs, strict=True))[:: -1 if number % 2 else 1]:
            case.before()
            seconds.append(timed(case.work))
    used = [peak_bytes(case.memory) if case.memory else None for case in cases]
    return [
        Measurement(c.name, s, c.items, c.unit, c.flops, c.peak, u) for c, s, u in zip(cases, runs, used, strict=True)
    ]


def timed(work: Work) -> float:
    """Seconds of one call, until the device has finished."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def cast(work: Work, compute: ComputeConfig) -> Work:
    """The work in the precision of ``compute``, without gradients."""

    @torch.no_grad()
    def run() -> object:
        with autocast(compute):
            return work()

    return run


def peak_bytes(prepare: Callable[[], Work]) -> int | None:
    """Bytes that a piece of work needs at its peak, beyond what it starts from; None where that can't be measured.

    Measured in a fresh process, because an allocator that has served other work answers from what it kept. On CUDA it
    is the memory of tensors, on the CPU the resident size, which Linux alone can tell. ``prepare`` is picklable, builds
    everything and returns the work.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_growth, prepare).result()


def _growth(prepare: Callable[[], Work]) -> int | None:
    work = prepare()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    if not CLEAR.exists():
        return None
    CLEAR.write_text(RESET_PEAK)
    before = resident("VmRSS")
    work()
    return max(0, resident("VmHWM") - before)


def resident(field: str) -> int:
    """Bytes that this process holds: VmRSS now, VmHWM at most."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return 1024 * int(found[1])
