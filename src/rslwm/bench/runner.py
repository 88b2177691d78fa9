"""Times pieces of work, side by side in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import track

from rslwm.bench.memory import Work, peak_bytes
from rslwm.bench.result import Measurement
from rslwm.compute import ComputeConfig, autocast
from rslwm.serialisation import ConfigError


@dataclass(frozen=True)
class Case:
    """A piece of work, and what one run of it makes; see :class:`Measurement`."""

    name: str
    work: Work
    items: float
    unit: str
    flops: float | None = None
    peak: float | None = None
    before: Work | None = None
    """Runs before every run of the work and isn't timed."""
    warm_up: Work | None = None
    """Runs before the first round; the work itself if there is no other."""
    memory: Callable[[], Work] | None = None
    """What :func:`peak_bytes` asks for the work whose memory is told."""

    def seconds(self, work: Work) -> float:
        """Of one call of the work or of its warm-up."""
        if self.before:
            self.before()
        return timed(work)

    def measurement(self, seconds: list[float]) -> Measurement:
        """After these runs; measures the memory."""
        used = peak_bytes(self.memory) if self.memory else None
        return Measurement(self.name, seconds, self.items, self.unit, self.flops, self.peak, used)


def measure(cases: Sequence[Case], rounds: int) -> list[Measurement]:
    """Every case ``rounds`` times, in turns, so that whatever slows the machine down meets all alike.

    The order is reversed from round to round. Run i of one case may be compared with run i of another.

    Raises:
        ConfigError: not a single round.
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; a measurement needs at least 1")
    for case in cases:
        case.seconds(case.warm_up or case.work)
    runs: list[list[float]] = [[] for _ in cases]
    for number in track(range(rounds), "rounds", console=Console(stderr=True), transient=True):
        for case, seconds in list(zip(cases, runs, strict=True))[:: -1 if number % 2 else 1]:
            seconds.append(case.seconds(case.work))
    return [case.measurement(seconds) for case, seconds in zip(cases, runs, strict=True)]


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
