"""What is measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from rslwm.compute import ComputeConfig, device, precision
from rslwm.processes import cores

CPUINFO = Path("/proc/cpuinfo")


def facts(compute: ComputeConfig) -> dict[str, Any]:
    """Processor, precision, threads, versions and load of this machine, as JSON types."""
    where = device(compute)
    return {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        "dtype": str(precision(compute)).removeprefix("torch."),
        "cpu": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "load": round(os.getloadavg()[0], 2),
    }


def use_threads(threads: int) -> None:
    """Compute on so many CPU threads; 0 is one a core that this process may use."""
    torch.set_num_threads(threads or cores())


def _processor() -> str:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
