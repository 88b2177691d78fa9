"""rslwm compare, train and latents train: the commands that run a study."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from rich.table import Table

from rslwm.cli.budget import print_power
from rslwm.cli.flags import StudyCommand
from rslwm.cli.output import console, report_failures
from rslwm.reproduce import table as ledgers
from rslwm.reproduce.against import Beside
from rslwm.run.progress import duration
from rslwm.run.runner import Runner, Schedule
from rslwm.run.stage import Demand, closure
from rslwm.serialisation import ConfigError
from rslwm.study.checkpoint import train_spaces, train_world_models
from rslwm.study.compare import compare
from rslwm.study.config import StudyConfig
from rslwm.study.estimate import GPUS, FrameCost, Line, data_size, frame_costs, lines
from rslwm.study.graph import Study
from rslwm.study.record import Failure, RunRecord
from rslwm.study.stages.base import DataStage
from rslwm.train.track import Kind, tracking
from rslwm.verdict.table import render, render_robustness


def tracked(kind: Kind | None, config: StudyConfig, out: Path) -> AbstractContextManager[None]:
    """Show the trainings of a study's stages, which are done inside, under readable names; None shows nothing."""
    if kind is None:
        return nullcontext()
    stages = closure(Study(config).targets)
    names = {f"{s.kind}-{s.key}": f"{s}-{s.key[:6]}".replace(" ", "-") for s in stages}
    return tracking(kind, out, names)


@dataclass
class Tracked(StudyCommand):
    """A command that trains world models."""

    track: Kind | None = None
    """Show losses and speeds in tensorboard, wandb or trackio, too (pip install 'rslwm[trackers]')."""


@dataclass
class Compare(Tracked):
    """Compare latent spaces: hold data, world model and budget fixed, swap the space, measure, decide, report.

    Run it again and it goes on where it stopped; a finished run only prints its verdict.

    For instance:
      rslwm compare demo                                         six small spaces on the embedded simulator
      rslwm compare demo --data lerobot:my_robot --out runs/mine your own data
      rslwm compare demo --latents small-vae,my_encoder.py:Mine  your own encoder
      rslwm compare demo --latents small-vae@tabletop,mine=runs/spaces/spaces/small-vae   spaces that are trained
      rslwm compare demo --seeds 3 --world-model.optim.steps 900 any field of the configuration is a flag
      rslwm compare demo --robustness light,camera,distractors   what is lost where training never was
      rslwm compare demo --against paper                         beside what the paper printed of such spaces
      rslwm compare demo --cache s3://lab/stages                 fetch what others have made, and share what is made
      rslwm compare demo --estimate                              what it would do and take, without doing it
      rslwm compare demo --seeds 3 --power                       which differences it would find, without doing it
    """

    estimate: bool = False
    """Print what there is to do and what it takes in FLOPs, GPU hours, disk and memory, and do nothing."""
    power: bool = False
    """Print the smallest differences that the study would detect with 80 % power, from a record of where chance comes
    from (`rslwm budget`), and do nothing."""
    budget: Path | None = None
    """That record; without it the shipped one that fits best."""
    gpu: str = "H100"
    """Of the estimated hours: B200, H200, H100, MI300X, A100, L40S, L4, 4090 or 3090."""
    utilisation: float = 0.2
    """Share of that GPU's peak that the estimated hours assume. The hours of the paper's Table 6 come to 0.1 to 0.2."""
    against: Literal["paper"] | None = None
    """Put the numbers beside those printed in arXiv 2605.06388, with the differences of protocol, here and in the
    report."""

    def run(self) -> None:
        if self.estimate:
            return estimate(self.config, self.folder, self.jobs, self.gpu, self.utilisation)
        if self.power:
            return print_power(self.config, self.budget)
        from rslwm.report.page import build_report

        out = self.folder
        screen, failed, pages = console(), list[Failure](), dict[Path, Path]()
        besides = dict[Path, Beside]()

        def finish(folder: Path) -> None:
            if self.against:
                besides[folder] = Beside.load(folder)
            pages[folder] = build_report(folder, besides.get(folder))

        command = shlex.join(["rslwm", *sys.argv[1:]])
        with tracked(self.track, self.config, out):
            verdicts = compare(self.config, out, self.jobs, command, finish, self.executor, self.cache)
        for folder, verdict in verdicts.items():
            record, page = RunRecord.load(folder), pages[folder]
            if folder != out:
                screen.print(f"\nsize {folder.name}", style="bold")
            screen.print(render(verdict, {space.name: space.cost["training_seconds"] for space in record.spaces}))
            if verdict.robustness:
                screen.print("", render_robustness(verdict), "")
            if self.against:
                screen.print("", ledgers.beside(besides[folder]), "", highlight=False)
            for note in record.notes:
                screen.print(note, markup=False)
            for missing in record.unavailable:
                screen.print(f"not available: {missing.metric}: {missing.reason}", markup=False)
            failed += record.failed
            screen.print(f"\nreport: {page}", markup=False, soft_wrap=True)
        screen.print(f"world models: {out / 'checkpoints'}", markup=False, soft_wrap=True)
        if failed:
            report_failures(failed)


@dataclass
class Train(Tracked):
    """Train world models and what they need first: data, encoder, adapter, latents, pixel decoder.

    Every latent space gives a checkpoint, a folder that `rslwm rollout` and `WorldModel.load` take by its path alone.
    In the folder of a comparison, what that has trained is reused.

    For instance:
      rslwm train demo --latents small-vae --out runs/vae
      rslwm train demo --latents small-dino+16 --data lerobot:my_robot --world-model.dit.depth 6
    """

    def run(self) -> None:
        with tracked(self.track, self.config, self.folder):
            checkpoints = train_world_models(self.config, self.folder, self.jobs, self.executor, self.cache)
        for checkpoint in checkpoints:
            console().print(f"checkpoint: {checkpoint}", markup=False, soft_wrap=True)


@dataclass
class TrainSpaces(StudyCommand):
    """Train latent spaces, each with its pixel decoder: a folder that `LatentSpace.load` takes by its path alone.

    Name the spaces, which are then trained as the demo does it, or a preset or file with --latents.

    For instance:
      rslwm latents train web-dino+96 --data lerobot:my_robot
      rslwm latents train small-vae,small-dino+16 --out runs/spaces
      rslwm latents train bridge --latents siglip2+96 --data rlds:bridge_dataset/1.0.0
    """

    of_spaces: ClassVar[bool] = True

    def run(self) -> None:
        for folder in train_spaces(self.config, self.folder, self.jobs, self.executor, self.cache):
            console().print(f"latent space: {folder}", markup=False, soft_wrap=True)


# ------------------------------------------------------------------------------------------------------ its estimate

COUNTED = (
    "Training counts three forward passes, and holds weights, gradients, two moments and the moving average in "
    "float32, and in bfloat16 the weights once more and what autograd keeps of a batch. All else holds its weights in "
    "bfloat16, and planning --evaluation.planning.plan.memory-mb. Not counted: activations of encoders and "
    "perceptual networks, metrics, videos."
)
WORDS = ("stage", "latent space", "family", "latents", "size")
"""Columns of these, and not of numbers."""


def estimate(config: StudyConfig, out: Path, jobs: int, gpu: str, utilisation: float) -> None:
    """Print what a study takes; nothing is run or written. Raises :class:`ConfigError` if it can't be run, or if there
    is no such GPU or share of it."""
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
        f"{'counted' if known.counted else 'assumed, see --data-size.episodes and --data-size.steps'}.\n{COUNTED}",
        highlight=False,
    )
    if not config.sizes:
        left = Schedule(study.targets, runner.finished)
        seconds = duration(left.remaining_seconds(runner.jobs, {}))
        screen.print(f"On this machine: about {seconds} with {runner.jobs} jobs, at the demo's speed.")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column in WORDS else "right")
    return table


def _frame_costs(costs: Mapping[tuple[str, str], FrameCost]) -> Table:
    shares = ("encoder", "adapter", "transformer", "decoder", "total")
    table = _table("one frame, GFLOP", "latent space", "family", "latents", "bytes", "size", *shares)
    for (name, size), cost in costs.items():
        spec, flops = cost.spec, [getattr(cost, share) for share in shares]
        latents = "x".join(map(str, (*spec.grid, spec.channels)))
        gigaflops = [f"{number / 1e9:.1f}" if number else "-" for number in flops]
        table.add_row(name, spec.family, latents, f"{spec.bytes_per_frame:,}", size, *gigaflops)
    return table


def _stages(lines: Sequence[Line], rate: float) -> Table:
    amounts = ("jobs", "finished", "FLOP", "GPU hours", "disk", "memory")
    table = _table("stages", "stage", "latent space", "size", *amounts)
    for line in lines:
        table.add_row(line.kind, line.space, line.size, *_amounts(line, rate))
    jobs, finished = sum(line.jobs for line in lines), sum(line.finished for line in lines)
    total = Line("all", "", "", jobs, finished, sum((line.demand for line in lines), Demand()))
    table.add_section()
    table.add_row("all", "", "", *_amounts(total, rate), style="bold")
    return table


def _amounts(line: Line, rate: float) -> list[str]:
    taken, hours = line.demand, line.demand.flops / rate / 3600
    return [
        str(line.jobs),
        str(line.finished or ""),
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
