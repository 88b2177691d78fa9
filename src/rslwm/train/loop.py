"""The one training loop: encoders, adapters, decoders, probes and world models all go through it."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import autocast
from rslwm.config import ComputeConfig, OptimConfig
from rslwm.train import optim
from rslwm.train.checkpoint import load_state, save_state

Progress = Callable[[int, int, str], None]
Loss = Callable[[int], tuple[Tensor, dict[str, Tensor]]]


class TrainingFailed(RuntimeError):
    """Training can't go on or its result is worthless; the message says what happened and what to change."""


@dataclass(frozen=True)
class Trained:
    """What a finished training tells: steps, seconds over all attempts, FLOPs of one step, the last logged terms."""

    steps: int
    seconds: float
    flops_per_step: float
    terms: dict[str, float]
    average: nn.Module | None = None


def fit(
    module: nn.Module,
    loss: Loss,
    config: OptimConfig,
    folder: Path,
    compute: ComputeConfig,
    progress: Progress = lambda done, total, message: None,
    after_step: Callable[[float], None] = lambda fraction: None,
    monitor: Callable[[], dict[str, float]] = dict,
) -> Trained:
    """Minimise ``loss`` over the parameters of ``module``, in place; resumes from ``folder`` if it holds a state.

    Args:
        module: everything that is trained or moves during training; all of it is in the checkpoint.
        loss: maps a step number to the scalar to minimise and terms to log. It must draw its batch and its noise from
            generators that depend on the step (:func:`rslwm.compute.generator`); then a resumed run equals an
            uninterrupted one to the last bit.
        after_step: called after each optimiser step with the share of training done.
        monitor: extra figures for the log, every ``monitor_every`` steps and at the end.

    Raises:
        TrainingFailed: the loss or its gradient is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_file, log_file = folder / "training_state.safetensors", folder / "train.jsonl"
    optimizer = optim.build(module, config)
    average = copy.deepcopy(module).requires_grad_(False) if config.ema else None
    step = 0
    facts: dict[str, Any] = {"seconds": 0.0, "flops_per_step": 0.0, "terms": {}}
    if state_file.exists():
        step, facts = load_state(state_file, module, optimizer, average)
        _truncate_log(log_file, step)
    started = time.perf_counter() - facts["seconds"]
    module.train()
    while step < config.steps:
        for group in optimizer.param_groups:
            group["lr"] = optim.learning_rate(config, step)
        counter = FlopCounterMode(display=False) if facts["flops_per_step"] == 0 else None
        value, terms, norm = _step(module, loss, step, optimizer, config, compute, counter)
        if counter:
            facts["flops_per_step"] = float(counter.get_total_flops())
        step += 1
        if average is not None:
            _update_average(average, module, config.ema, step)
        after_step(step / config.steps)
        _require_finite(value, norm, step, log_file)
        if step % config.log_every == 0 or step == config.steps:
            facts["seconds"] = time.perf_counter() - started
            facts["terms"] = {name: float(term) for name, term in terms.items()}
            if step % config.monitor_every == 0 or step == config.steps:
                facts["terms"] |= monitor()
            _log(log_file, step, float(value), float(norm), facts)
        progress(step, config.steps, f"loss {float(value):.3g}")
        if step % config.checkpoint_every == 0 or step == config.steps:
            facts["seconds"] = time.perf_counter() - started
            save_state(state_file, step, module, optimizer, average, facts)
    module.eval()
    return Trained(step, facts["seconds"], facts["flops_per_step"], facts["terms"], average and average.eval())


def _step(
    module: nn.Module,
    loss: Loss,
    step: int,
    optimizer: torch.optim.Optimizer,
    config: OptimConfig,
    compute: ComputeConfig,
    counter: FlopCounterMode | None,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """One optimiser step; returns the loss, its terms and the norm of the gradient."""
    with counter or contextlib.nullcontext():
        with autocast(compute):
            value, terms = loss(step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
    optimizer.step()
    return value.detach(), {name: term.detach() for name, term in terms.items()}, norm


@torch.no_grad()
def _update_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average, with a shorter memory at the start so that the initial weights are forgotten."""
    keep = min(decay, step / (step + 9.0))
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - keep)
    for slow, fast in zip(average.buffers(), module.buffers(), strict=True):
        slow.copy_(fast)


def _require_finite(value: Tensor, norm: Tensor, step: int, log_file: Path) -> None:
    for what, figure in (("loss", value), ("norm of the gradient", norm)):
        if not math.isfinite(figure):
            raise TrainingFailed(
                f"the {what} became {float(figure)} at step {step} (log: {log_file}); lower the learning rate or check "
                "the data with `rslwm data check`"
            )


def _log(path: Path, step: int, loss: float, norm: float, facts: dict[str, Any]) -> None:
    line = {"step": step, "loss": loss, "gradient_norm": norm, "seconds": round(facts["seconds"], 3), **facts["terms"]}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _truncate_log(path: Path, step: int) -> None:
    """Drop lines that a killed run wrote after its last checkpoint, and a half-written last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except json.JSONDecodeError:
            break
    path.write_text("".join(line + "\n" for line in kept))
