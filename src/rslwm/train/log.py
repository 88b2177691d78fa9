"""The log of a training: ``train.jsonl``, a line of figures each interval, some of which say how fast it is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "train.jsonl"


class TrainingLog:
    """Always written, whatever else shows it; a line holds ``step``, ``loss`` and other figures by name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME

    def append(self, step: int, **figures: float) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")

    def truncate(self, step: int) -> None:
        """Drop what a killed run wrote after this step, which will be made again, and a half-written last line."""
        if self.path.exists():
            kept = [line for line in read_log(self.path) if line["step"] <= step]
            fresh = self.path.with_suffix(".tmp")
            fresh.write_text("".join(json.dumps(line) + "\n" for line in kept))
            fresh.replace(self.path)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last one that is being written is left out."""
    lines: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


class Speedometer:
    """Times steps of so many samples, and nothing between them: looks at the model and checkpoints don't count.

    ``peak`` is :func:`rslwm.compute.peak_flops`, one for all trainings of a run.
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
