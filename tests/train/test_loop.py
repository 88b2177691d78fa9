"""One loop trains everything: exact resume, moving average, log, and failures that say what happened."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from rslwm.compute import generator, seeded
from rslwm.config import ComputeConfig, OptimConfig
from rslwm.train.loop import Loss, Trained, TrainingFailed, fit
from rslwm.types import DataError

CONFIG = OptimConfig(steps=20, lr=0.05, warmup=3, ema=0.9, checkpoint_every=4, log_every=2, monitor_every=5)


class Interrupted(Exception):
    """Stands for a kill."""


def network() -> nn.Sequential:
    with seeded(0, "weights"):
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


def regression(module: nn.Module, stop_at: int = -1) -> Loss:
    """Learn the sum of three numbers plus noise; all draws depend on the step."""

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        if step == stop_at:
            raise Interrupted
        x = torch.randn(16, 3, generator=generator(0, "batch", step))
        target = x.sum(1, keepdim=True) + 0.1 * torch.randn(16, 1, generator=generator(0, "noise", step))
        value = (module(x) - target).square().mean()
        return value, {"squared": value}

    return loss


def train(folder: Path, compute: ComputeConfig, stop_at: int = -1) -> Trained:
    """The result, its ``average`` holding the trained network and the moving average of it."""
    module = network()
    trained = fit(module, regression(module, stop_at), CONFIG, folder, compute)
    assert trained.average is not None
    return replace(trained, average=nn.ModuleList([module, trained.average]))


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def weights(trained: Trained) -> dict[str, Tensor]:
    assert trained.average is not None
    return trained.average.state_dict()


def without_times(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in log]


@pytest.mark.parametrize("stops", [(1,), (6, 7, 13), (4, 19)])
def test_an_interrupted_run_ends_with_the_same_bits(
    stops: tuple[int, ...], tmp_path: Path, compute: ComputeConfig
) -> None:
    whole = train(tmp_path / "whole", compute)
    for stop in stops:
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", compute, stop_at=stop)
    resumed = train(tmp_path / "parts", compute)
    expected = weights(whole)
    assert weights(resumed).keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())
    assert without_times(lines(tmp_path / "parts")) == without_times(lines(tmp_path / "whole"))
    assert resumed.flops_per_step == whole.flops_per_step > 0


def test_a_finished_run_is_not_trained_again(tmp_path: Path, compute: ComputeConfig) -> None:
    first = train(tmp_path, compute)
    again = train(tmp_path, compute, stop_at=0)  # any step would raise
    assert again.terms == first.terms
    assert all(torch.equal(value, weights(first)[name]) for name, value in weights(again).items())


def test_at_most_the_steps_since_the_checkpoint_are_repeated(tmp_path: Path, compute: ComputeConfig) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, compute, stop_at=11)
    steps: list[int] = []
    module = network()
    loss = regression(module)
    fit(module, lambda step: (steps.append(step), loss(step))[1], CONFIG, tmp_path, compute)
    assert steps == list(range(8, 20))


def test_the_average_follows_its_recursion(tmp_path: Path, compute: ComputeConfig) -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    seen: list[float] = []
    config = OptimConfig(steps=24, lr=0.1, warmup=0, ema=0.7)  # its start-up ends at step 21

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return (module.weight - 1).square().sum(), {}

    trained = fit(module, loss, config, tmp_path, compute, after_step=lambda _: seen.append(module.weight.item()))
    average = 0.0
    for step, value in enumerate(seen, 1):
        keep = min(0.7, step / (step + 9))
        average = keep * average + (1 - keep) * value
    assert trained.average is not None
    assert float(next(trained.average.parameters())) == pytest.approx(average, abs=1e-6)
    assert average != pytest.approx(seen[-1], abs=1e-4)


def test_the_average_carries_the_latest_buffers(tmp_path: Path, compute: ComputeConfig) -> None:
    trained, average = weights(train(tmp_path, compute)), 0
    for name, value in trained.items():
        if name.startswith("1.1.") and ("running" in name or "batches" in name):
            average += 1
            assert torch.equal(value, trained[name.replace("1.", "0.", 1)])
    assert average == 3


def test_there_is_no_average_unless_asked_for(tmp_path: Path, compute: ComputeConfig) -> None:
    module = network()
    assert fit(module, regression(module), OptimConfig(steps=2), tmp_path, compute).average is None


def test_the_loss_falls(tmp_path: Path, compute: ComputeConfig) -> None:
    train(tmp_path, compute)
    log = lines(tmp_path)
    assert log[-1]["loss"] < log[0]["loss"] / 2


def test_logged_terms_and_the_monitors_figures(tmp_path: Path, compute: ComputeConfig) -> None:
    module, looks = network(), iter(range(10))
    trained = fit(module, regression(module), CONFIG, tmp_path, compute, monitor=lambda: {"rank": float(next(looks))})
    log = lines(tmp_path)
    assert [line["step"] for line in log] == list(range(2, 21, 2))
    assert {line["step"]: line["rank"] for line in log if "rank" in line} == {10: 0.0, 20: 1.0}
    assert trained.terms == {"squared": log[-1]["loss"], "rank": 1.0}


def test_flops_of_a_step_are_counted(tmp_path: Path, compute: ComputeConfig) -> None:
    module = nn.Linear(8, 4, bias=False)
    x = torch.randn(16, 8, generator=generator(0, "x"))
    trained = fit(module, lambda step: (module(x).square().sum(), {}), OptimConfig(steps=2), tmp_path, compute)
    assert trained.flops_per_step == 2 * (2 * 16 * 8 * 4)  # forward, and backward for the weights alone


def test_a_loss_that_is_not_finite_stops_at_once(tmp_path: Path, compute: ComputeConfig) -> None:
    module = network()
    loss = regression(module)

    def diverging(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        value, terms = loss(step)
        return (value * math.nan if step == 8 else value), terms

    with pytest.raises(TrainingFailed, match=r"the loss became nan at step 9 .*train\.jsonl.*lower the learning rate"):
        fit(module, diverging, OptimConfig(steps=20, log_every=20, checkpoint_every=10), tmp_path, compute)
    assert not (tmp_path / "training_state.safetensors").exists()


def test_a_gradient_that_is_not_finite_stops_at_once(tmp_path: Path, compute: ComputeConfig) -> None:
    module = nn.Linear(1, 1, bias=False)

    def pointed(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return (module.weight * 0).sum().sqrt(), {}  # 0, with an infinite slope

    with pytest.raises(TrainingFailed, match="the norm of the gradient became nan at step 1 "):
        fit(module, pointed, OptimConfig(steps=1), tmp_path, compute)
    assert not (tmp_path / "training_state.safetensors").exists()


def test_a_failing_first_step_leaves_nothing_behind(tmp_path: Path, compute: ComputeConfig) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, compute, stop_at=0)
    assert _get_current_dispatch_mode_stack() == []


def test_a_resumed_log_loses_what_was_written_after_the_checkpoint(tmp_path: Path, compute: ComputeConfig) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, compute, stop_at=11)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6, 8, 10]
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"step": 12, "lo')  # a kill in the middle of a write
    with pytest.raises(Interrupted):
        train(tmp_path, compute, stop_at=9)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6, 8]


@pytest.mark.parametrize("cut", [lambda data: data[:-40], lambda data: b"\xff" * 64 + data[64:], lambda data: b""])
def test_a_damaged_state_is_refused_with_the_way_out(
    cut: Callable[[bytes], bytes], tmp_path: Path, compute: ComputeConfig
) -> None:
    train(tmp_path, compute)
    path = tmp_path / "training_state.safetensors"
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(DataError, match=r"training_state\.safetensors: not a readable.*delete it to start over"):
        train(tmp_path, compute)


def test_the_state_of_another_model_is_refused(tmp_path: Path, compute: ComputeConfig) -> None:
    train(tmp_path, compute)
    other = nn.Linear(3, 1)
    with pytest.raises(DataError, match=r"(?s)belongs to another model.*delete it to start over"):
        fit(other, regression(other), CONFIG, tmp_path, compute)


def test_a_kill_while_saving_keeps_the_state_before(
    tmp_path: Path, compute: ComputeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, compute, stop_at=5)
    before = (tmp_path / "training_state.safetensors").read_bytes()

    def killed(self: Path, target: Path) -> Path:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(Interrupted):
            train(tmp_path, compute)
    assert (tmp_path / "training_state.safetensors").read_bytes() == before
    assert train(tmp_path, compute).steps == 20
