"""How fast training is: steps, samples and the share of the machine's matrix-product peak."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Speedometer:
    """Times steps, and nothing between them: looks at the model and checkpoints don't count.

    Args:
        samples: of one step.
        peak: FLOP/s of a matrix product, see :func:`rslwm.compute.peak_flops`: one for all trainings of a run.
    """

    def __init__(self, samples: int, peak: float) -> None:
        self.samples, self.peak = samples, peak
        self._steps, self._seconds, self._summary = 0, 0.0, ""

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around one step, which must end with its result on the CPU, or a GPU is timed before it is done."""
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began
        self._steps += 1

    def read(self, flops_per_step: float) -> dict[str, float]:
        """Rates since the last reading. ``mfu``, model-FLOP utilisation, is a share of the peak."""
        rate = self._steps / self._seconds
        samples, mfu = rate * self.samples, rate * flops_per_step / self.peak
        self._steps, self._seconds, self._summary = 0, 0.0, f"  {samples:.3g} samples/s  MFU {mfu:.0%}"
        return {"steps_per_second": rate, "samples_per_second": samples, "mfu": mfu}

    def __str__(self) -> str:
        """The last reading in short, to be put behind other figures; empty before there is one."""
        return self._summary
