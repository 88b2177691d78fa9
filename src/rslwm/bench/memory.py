"""Peak memory of a piece of work."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

Work = Callable[[], object]

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What Linux wants to read in ``clear_refs`` to forget the peak of the resident size."""


def peak_bytes(prepare: Callable[[], Work]) -> int | None:
    """Bytes that a piece of work needs at its peak, beyond what it starts from; None where that can't be measured.

    Measured in a fresh process, because an allocator that has served other work answers from what it kept. On CUDA it
    is the memory of tensors, on the CPU the resident size, which Linux alone can tell.

    Args:
        prepare: a picklable function (of a module, or a partial of one) that builds everything and returns the work.
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
    before = _resident("VmRSS")
    work()
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return 1024 * int(found[1])
