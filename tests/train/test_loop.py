"""One loop trains everything: exact resume, moving average, log, and failures that say what happened."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from rslwm.compute import ComputeConfig, generator, seeded
from rslwm.optim import OptimConfig
from rslwm.train.loop import Loss, Trained, TrainingFailed, fit
from rslwm.types import DataError

TIMES = ("seconds", "steps_per_second", "samples_per_second", "mfu")
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
    """The result, its ``weights`` being those of the trained network (0) and of its moving average (1)."""
    module = network()
    trained = fit(module, regression(module, stop_at), CONFIG, folder, compute)
    both = {f"0.{k}": v for k, v in module.state_dict().items()} | {f"1.{k}": v for k, v in trained.weights.items()}
    return replace(trained, weights=both)


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def weights(trained: Trained) -> dict[str, Tensor]:
    return trained.weights


def without_times(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in log]


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("training_state*"))


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
    assert float(trained.weights["weight"]) == pytest.approx(average, abs=1e-6)
    assert average != pytest.approx(seen[-1], abs=1e-4)


def test_the_average_carries_the_latest_buffers(tmp_path: Path, compute: ComputeConfig) -> None:
    trained, average = weights(train(tmp_path, compute)), 0
    for name, value in trained.items():
        if name.startswith("1.1.") and ("running" in name or "batches" in name):
            average += 1
            assert torch.equal(value, trained[name.replace("1.", "0.", 1)])
    assert average == 3


def test_without_an_average_it_ends_with_the_last_weights(tmp_path: Path, compute: ComputeConfig) -> None:
    module = network()
    trained = fit(module, regression(module), OptimConfig(steps=2), tmp_path, compute)
    assert all(torch.equal(value, trained.weights[name]) for name, value in module.state_dict().items())


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
    assert states(tmp_path) == []


def test_the_last_good_state_outlives_a_loss_that_is_not_finite(tmp_path: Path, compute: ComputeConfig) -> None:
    def weights(folder: Path, wrong_at: int | None) -> Tensor:
        module = network()
        loss = regression(module)

        def sometimes(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            value, terms = loss(step)
            return (value * math.nan if step == wrong_at else value), terms

        fit(module, sometimes, CONFIG, folder, compute)
        return nn.utils.parameters_to_vector(module.parameters())

    with pytest.raises(TrainingFailed, match="the loss became nan at step 10 "):
        weights(tmp_path / "wrong", 9)
    assert [path.stem for path in states(tmp_path / "wrong")] == ["training_state-00000008"]
    assert torch.equal(weights(tmp_path / "wrong", None), weights(tmp_path / "never", None))


def test_a_gradient_that_is_not_finite_stops_at_once(tmp_path: Path, compute: ComputeConfig) -> None:
    module = nn.Linear(1, 1, bias=False)

    def pointed(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return (module.weight * 0).sum().sqrt(), {}  # 0, with an infinite slope

    with pytest.raises(TrainingFailed, match="the norm of the gradient became nan at step 1 "):
        fit(module, pointed, OptimConfig(steps=1), tmp_path, compute)
    assert states(tmp_path) == []


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


def test_a_kill_before_the_first_checkpoint_leaves_no_line_behind(tmp_path: Path, compute: ComputeConfig) -> None:
    for stop in (3, 2):
        with pytest.raises(Interrupted):
            train(tmp_path, compute, stop_at=stop)
    assert [line["step"] for line in lines(tmp_path)] == [2]


def test_the_state_of_another_model_is_refused(tmp_path: Path, compute: ComputeConfig) -> None:
    train(tmp_path, compute)
    other = nn.Linear(3, 1)
    with pytest.raises(
        DataError, match=r"(?s)-00000020\.safetensors: belongs to another model.*delete it to start over"
    ):
        fit(other, regression(other), CONFIG, tmp_path, compute)


# -------------------------------------------------------------------------------------------------------- accumulation


def squares(module: nn.Linear, batch_size: int, numbers: list[int]) -> Loss:
    """Loss over rows [number * batch_size, ...) of one table, so that two small batches are one large one."""
    rows = torch.randn(48, 3, generator=generator(0, "rows"))

    def loss(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        numbers.append(number)
        x = rows[number * batch_size : (number + 1) * batch_size]
        value = (module(x) - x.sum(1, keepdim=True)).square().mean()
        return value, {"squared": value, "batch": torch.tensor(float(number))}

    return loss


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path, compute: ComputeConfig) -> None:
    outcomes = []
    for accumulate, batch_size in ((1, 8), (4, 2)):
        with seeded(0, "weights"):
            module = nn.Linear(3, 1)
        numbers: list[int] = []
        config = OptimConfig(steps=6, lr=0.05, warmup=2, batch_size=batch_size, accumulate=accumulate, log_every=1)
        folder = tmp_path / str(accumulate)
        trained = fit(module, squares(module, batch_size, numbers), config, folder, compute)
        assert numbers == list(range(6 * accumulate))
        outcomes.append((module.weight, torch.tensor([line["loss"] for line in lines(folder)]), trained.flops_per_step))
        assert lines(folder)[1]["batch"] == pytest.approx(accumulate + (accumulate - 1) / 2)  # mean of step 2's
    for one, four in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, four)


def test_every_line_says_how_fast_training_is(
    tmp_path: Path, compute: ComputeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rslwm.train.loop.peak_flops", lambda device, dtype: 1e6)
    module = network()
    config = replace(CONFIG, accumulate=2, batch_size=16)
    messages: list[str] = []
    trained = fit(module, regression(module), config, tmp_path, compute, lambda d, t, message: messages.append(message))
    for line in lines(tmp_path):
        assert line["samples_per_second"] == pytest.approx(32 * line["steps_per_second"])
        assert line["mfu"] == pytest.approx(trained.flops_per_step * line["steps_per_second"] / 1e6)
    assert "samples/s" not in messages[0]
    assert f"{lines(tmp_path)[-1]['samples_per_second']:.3g} samples/s  MFU" in messages[-1]
