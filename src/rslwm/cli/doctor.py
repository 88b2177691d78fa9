"""rslwm doctor"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from rslwm.cli.output import console
from rslwm.processes import cores

MEMORY_GB, DISK_GB = 4.0, 5.0
"""What the demo needs at its peak."""


@dataclass(frozen=True)
class Fact:
    """What was found; ``remedy`` is empty where nothing has to be done, ``fatal`` where the demo can't run without."""

    what: str
    found: str
    remedy: str = ""
    fatal: bool = False


@dataclass
class Doctor:
    """Check whether this machine can run everything, and say what to install where it can't; exit code 1 then.

    For instance:
      rslwm doctor
    """

    def run(self) -> int:
        table = Table(box=None, show_header=False)
        facts = [fact for check in CHECKS for fact in check()]
        for fact in facts:
            mark = "[red]no[/]" if fact.fatal else "[yellow]!![/]" if fact.remedy else "[green]ok[/]"
            table.add_row(mark, fact.what, escape(fact.found))
            if fact.remedy:
                table.add_row("", "", f"[bold]{escape(fact.remedy)}[/]")
        console().print(table)
        return 1 if any(fact.fatal for fact in facts) else 0


def _python() -> Iterator[Fact]:
    yield Fact("python", f"{platform.python_version()}, {platform.platform()}")


def _torch() -> Iterator[Fact]:
    import torch

    from rslwm.compute import ComputeConfig, precision

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    yield Fact("torch", f"{torch.__version__}, {cuda}")
    fast = str(precision(ComputeConfig())).removeprefix("torch.")
    yield Fact("precision", f"{fast} is used, the faster one here")


def _torchvision() -> Iterator[Fact]:
    if importlib.util.find_spec("torchvision") is None:
        yield Fact("torchvision", "not installed, not needed")
        return
    version = importlib.metadata.version("torchvision")
    try:
        importlib.import_module("torchvision")
    except (RuntimeError, ImportError, OSError) as error:
        remedy = "pip uninstall torchvision: a build for another torch also breaks torchmetrics, which rslwm uses"
        yield Fact("torchvision", f"{version} is broken: {error}", remedy, fatal=True)
    else:
        yield Fact("torchvision", f"{version}, imports")


def _simulator() -> Iterator[Fact]:
    from rslwm.sim.config import SimConfig

    try:
        from rslwm.sim.tabletop import Tabletop

        table = Tabletop(SimConfig.image_size)
        table.reset(0, SimConfig().families[0])
        black = table.render("front").max() == 0
    except ImportError as error:
        yield Fact("simulator", "MuJoCo can't draw", str(error), fatal=True)
        return
    found = f"MuJoCo {importlib.metadata.version('mujoco')} draws with {os.environ.get('MUJOCO_GL', 'default')}"
    remedy = "the picture is black; try MUJOCO_GL=osmesa or another driver" if black else ""
    yield Fact("simulator", found, remedy, fatal=bool(black))


def _video() -> Iterator[Fact]:
    import av

    if "libx264" in av.codecs_available:
        yield Fact("video", f"PyAV {av.__version__} with libx264")
    else:
        remedy = "pip install --force-reinstall --only-binary av av: its wheels bring the encoder"
        yield Fact("video", f"PyAV {av.__version__} without libx264", remedy, fatal=True)


def _resources() -> Iterator[Fact]:
    yield Fact("cores", str(cores()))
    if (meminfo := Path("/proc/meminfo")).is_file():
        free = int(meminfo.read_text().partition("MemAvailable:")[2].split()[0]) / 2**20
        remedy = "" if free >= MEMORY_GB else f"the demo takes up to {MEMORY_GB:.0f} GB; use --jobs 1"
        yield Fact("memory", f"{free:.1f} GB free", remedy)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    remedy = "" if free >= DISK_GB else "write elsewhere with --out"
    yield Fact("disk", f"{free:.0f} GB free in {Path.cwd()}", remedy)


def _packages() -> Iterator[Fact]:
    names = ("numpy", "scipy", "pyarrow", "safetensors", "torchmetrics", "matplotlib", "tyro")
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    remedy = f"{sys.executable} -m pip install {' '.join(missing)}" if missing else ""
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names if name not in missing)
    yield Fact("packages", found, remedy, fatal=bool(missing))


CHECKS = (_python, _torch, _torchvision, _packages, _simulator, _video, _resources)
