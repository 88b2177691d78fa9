"""The tables of ``rslwm compare --estimate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from rslwm.cli.output import console
from rslwm.run.progress import duration
from rslwm.run.runner import Runner
from rslwm.run.schedule import Schedule
from rslwm.run.stage import Demand
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.study.estimate import GPUS, FrameCost, Line, data_size, frame_costs, lines
from rslwm.study.graph import Study
from rslwm.study.stages.data import DataStage

COUNTED = (
    "Training counts three forward passes, and holds weights, gradients, two moments and the moving average in "
    "float32, and in bfloat16 the weights once more and what autograd keeps of a batch. All else holds its weights in "
    "bfloat16, and planning --evaluation.planning.plan.memory-mb. Not counted: activations of encoders and "
    "perceptual networks, metrics, videos."
)


def estimate(config: StudyConfig, out: Path, jobs: int, gpu: str, utilisation: float) -> None:
    """Print what a study takes; nothing is run or written.

    Raises:
        ConfigError: no such GPU, a utilisation that is none, or a study that can't be run.
    """
    if gpu not in GPUS or not 0 < utilisation <= 1:
        raise ConfigError(f"--gpu {gpu} --utilisation {utilisation:g}: one of {', '.join(GPUS)}, and a share up to 1")
    study, runner = Study(config), Runner(out, jobs, config.compute.threads)
    data = study.variants[0].pull(DataStage)
    known = data_size(study, runner.workspace.facts(data) if runner.finished(data) else None)
    rate, screen = GPUS[gpu] * utilisation, console()
    screen.print(_frame_costs(frame_costs(study)), "", _stages(lines(study, known.frames, runner.finished), rate), "")
    screen.print(
        f"GPU hours: one {gpu}, {GPUS[gpu] / 1e12:,.0f} TFLOP/s in dense bfloat16, {utilisation:.0%} of it used "
        f"(--gpu, --utilisation).\nData: {known.episodes:,} episodes of {known.frames / known.episodes:.0f} steps, "
        f"{known.source}.\n{COUNTED}",
        highlight=False,
    )
    if not config.sizes:
        left = Schedule(study.targets, runner.finished)
        seconds = duration(left.remaining_seconds(runner.jobs, {}))
        screen.print(f"On this machine: about {seconds} with {runner.jobs} jobs, at the demo's speed.")


def _frame_costs(costs: Mapping[tuple[str, str], FrameCost]) -> Table:
    table = Table(title="one frame, GFLOP", title_justify="left", box=None, header_style="dim")
    for column in ("latent space", "family", "latents", "bytes", "size"):
        table.add_column(column, justify="right" if column == "bytes" else "left")
    for column in ("encoder", "adapter", "transformer", "decoder", "total"):
        table.add_column(column, justify="right")
    for (name, size), cost in costs.items():
        spec = cost.spec
        latents = "x".join(map(str, (*spec.grid, spec.channels)))
        table.add_row(name, spec.family, latents, f"{spec.bytes_per_frame:,}", size, *_gigaflops(cost))
    return table


def _gigaflops(cost: FrameCost) -> list[str]:
    parts = (cost.encoder, cost.adapter, cost.transformer, cost.decoder, cost.total)
    return [f"{part / 1e9:.1f}" if part else "-" for part in parts]


def _stages(lines: Sequence[Line], rate: float) -> Table:
    table = Table(title="stages", title_justify="left", box=None, header_style="dim")
    for column in ("stage", "latent space", "size", "jobs", "finished", "FLOP", "GPU hours", "disk", "memory"):
        table.add_column(column, justify="left" if column in ("stage", "latent space", "size") else "right")
    for line in lines:
        counts = [str(line.jobs), str(line.finished) if line.finished else ""]
        table.add_row(line.kind, line.space, line.size, *counts, *_amounts(line.demand, rate))
    jobs, finished = sum(line.jobs for line in lines), sum(line.finished for line in lines)
    total = sum((line.demand for line in lines), Demand())
    table.add_section()
    table.add_row("all", "", "", str(jobs), str(finished) if finished else "", *_amounts(total, rate), style="bold")
    return table


def _amounts(taken: Demand, rate: float) -> list[str]:
    hours = taken.flops / rate / 3600
    return [
        f"{taken.flops:.2e}" if taken.flops else "",
        f"{hours:,.1f}" if hours >= 0.05 else "<0.1" if hours else "",
        _bytes(taken.disk),
        _bytes(taken.memory),
    ]


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return "<1 MB" if number else ""
