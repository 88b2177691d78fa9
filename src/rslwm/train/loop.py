"""The one training loop: encoders, adapters, decoders, probes and world models all go through it.

Its log, :data:`LOG`, gets a line of figures each interval, some of which say how fast it is.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rslwm import optim
from rslwm.compute import ComputeConfig, autocast, device, peak_flops, precision
from rslwm.files import write_whole
from rslwm.optim import OptimConfig
from rslwm.train.checkpoint import Training, TrainingStates
from rslwm.train.distributed import ALONE, Team, whole
from rslwm.types import Progress, silent

Loss = Callable[[int], tuple[Tensor, dict[str, Tensor]]]
"""Maps the number of a batch to the scalar to minimise and terms to log. It must draw its batch and its noise from
generators that depend on this number (:func:`rslwm.compute.generator`); then a resumed run equals an uninterrupted one
to the last bit."""

LOG = "train.jsonl"


class TrainingFailed(RuntimeError):
    """Training can't go on or its result is worthless; the message says what happened and what to change."""


@dataclass(frozen=True)
class Trained:
    """What a finished training tells: steps, seconds over all attempts, FLOPs of one step, the last logged terms."""

    steps: int
    seconds: float
    flops_per_step: float
    terms: dict[str, float]
    weights: dict[str, Tensor]
    """That it ends with: their moving average, if there is one."""

    @property
    def facts(self) -> dict[str, Any]:
        """For the report."""
        flops = self.flops_per_step * self.steps
        return {"training_seconds": self.seconds, "training_flops": flops, "terms": self.terms}


def fit(
    module: nn.Module,
    loss: Loss,
    config: OptimConfig,
    folder: Path,
    compute: ComputeConfig,
    progress: Progress = silent,
    after_step: Callable[[float], None] = lambda fraction: None,
    monitor: Callable[[], dict[str, float]] = dict,
    flops_per_step: float = 0.0,
    shard: bool = False,
) -> Trained:
    """Minimise ``loss`` over the parameters of ``module``, in place; resumes from ``folder`` if it holds a state. Of
    several processes, see :class:`rslwm.train.distributed.Team`, it returns in the first only.

    Args:
        module: everything that is trained or moves during training; all of it is in the checkpoint.
        loss: a batch's; step s takes ``accumulate`` batches, from number s * ``accumulate`` on.
        after_step: called after each optimiser step with the share of training done.
        monitor: extra figures for the log, every ``monitor_every`` steps and at the end.
        flops_per_step: the model's; 0 counts what the first step executes.
        shard: split a module that has ``blocks`` over the processes; if there are several, it is of no use afterwards.

    Raises:
        TrainingFailed: the loss or its gradient is not finite.
        DataError: the state in ``folder`` is damaged, or another model's.
        OSError: the disk is full.
    """
    team = Team.joined()
    log, states = TrainingLog(folder, team.first), TrainingStates(folder, config.keep, team.first)
    average = copy.deepcopy(module).eval().requires_grad_(False) if config.ema else None
    team.shard(*(module, average) if shard else ())
    training = Training(module, optim.build(module, config), average)
    step, facts = states.resume(training) or (0, {"seconds": 0.0, "flops_per_step": flops_per_step, "terms": {}})
    log.truncate(step)
    peak = team.size * peak_flops(device(compute), precision(compute))
    speed = Speedometer(config.batch_size * config.accumulate, peak)
    started = time.perf_counter() - facts["seconds"]
    module.train()
    while step < config.steps:
        counter = None if facts["flops_per_step"] else FlopCounterMode(display=False)
        with speed.step(), counter or contextlib.nullcontext():
            value, terms, norm = train_step(training, loss, step, config, compute, team)
            step += 1
            after_step(step / config.steps)
            _require_finite(value, norm, step, log.path)
        if counter:
            facts["flops_per_step"] = float(sum(team.gather([counter.get_total_flops()])))
        last, facts["seconds"] = step == config.steps, round(time.perf_counter() - started, 3)
        if last or step % config.log_every == 0:
            looks = monitor() if last or step % config.monitor_every == 0 else {}
            facts["terms"] = {name: float(term) for name, term in terms.items()} | looks
            rates = speed.read(facts["flops_per_step"])
            log.append(step, loss=value, gradient_norm=norm, seconds=facts["seconds"], **rates, **facts["terms"])
        progress(step, config.steps, f"loss {value:.3g}{speed}")
        if last or step % config.checkpoint_every == 0 or team.led(states.due):
            states.save(step, training, facts)
    module.eval()
    trained = Trained(step, facts["seconds"], facts["flops_per_step"], facts["terms"], training.weights())
    team.leave()
    return trained


def train_step(
    training: Training, loss: Loss, step: int, config: OptimConfig, compute: ComputeConfig, team: Team = ALONE
) -> tuple[float, dict[str, Tensor], float]:
    """One step of :func:`fit`: gradients of ``accumulate`` batches, optimiser, moving average of the weights.

    Learning rate and batches follow from ``step``, the number of steps done. Returns the loss and its terms, means over
    the batches, and the norm of the gradient before clipping.
    """
    optimizer = training.optimizer
    for group in optimizer.param_groups:
        group["lr"] = optim.learning_rate(config, step)
    optimizer.zero_grad(set_to_none=True)
    values, terms = [], []
    own = team.share(range(step * config.accumulate, (step + 1) * config.accumulate))
    for batch in own:
        with autocast(compute):
            value, parts = loss(batch)
        (value / len(own)).backward()
        values.append(value.detach())
        terms.append({name: part.detach() for name, part in parts.items()})
    team.average_gradients(training.module)
    values, terms = team.gather(values), team.gather(terms)
    norm = nn.utils.clip_grad_norm_(training.module.parameters(), config.clip_norm)
    optimizer.step()
    if training.average is not None:
        _update_average(training.average, training.module, config.ema, step + 1)
    return (
        float(_mean(values)),
        {name: _mean([parts[name] for parts in terms]) for name in terms[0]},
        float(whole(norm)),
    )


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)


@torch.no_grad()
def _update_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average, with a shorter memory at the start so that the initial weights are forgotten."""
    keep = min(decay, step / (step + 9.0))
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - keep)
    for slow, fast in zip(average.buffers(), module.buffers(), strict=True):
        slow.copy_(fast)


def _require_finite(value: float, norm: float, step: int, log_file: Path) -> None:
    for what, figure in (("loss", value), ("norm of the gradient", norm)):
        if not math.isfinite(figure):
            remedy = "lower the learning rate or check the data with `rslwm data check`"
            raise TrainingFailed(f"the {what} became {figure} at step {step} (log: {log_file}); {remedy}")


# -------------------------------------------------------------------------------------------------------------- its log


class TrainingLog:
    """Always written, whatever else shows it, by one process of a training (``writes``); a line holds ``step``,
    ``loss`` and other figures by name."""

    def __init__(self, folder: Path, writes: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.writes = folder / LOG, writes

    def append(self, step: int, **figures: float) -> None:
        if not self.writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")

    def truncate(self, step: int) -> None:
        """Drop what a killed run wrote after this step, which will be made again, and a half-written last line."""
        if self.writes and self.path.exists():
            kept = [line for line in read_log(self.path) if line["step"] <= step]
            write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))


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

    @contextlib.contextmanager
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
