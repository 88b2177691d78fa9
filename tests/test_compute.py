"""Devices, precision and random streams."""

import itertools
from pathlib import Path

import pytest
import torch

from rslwm import caches
from rslwm.compute import (
    PEAKS,
    ComputeConfig,
    _known_peak,
    autocast,
    device,
    generator,
    measure_peak,
    peak_flops,
    precision,
    resolved,
    seeded,
)
from rslwm.serialisation import ConfigError


def draw(seed: int, concern: str, step: int = 0) -> torch.Tensor:
    return torch.randn(4, generator=generator(seed, concern, step))


def test_a_stream_is_a_function_of_seed_concern_and_step() -> None:
    assert torch.equal(draw(3, "noise", 7), draw(3, "noise", 7))
    others = [draw(4, "noise", 7), draw(3, "batch", 7), draw(3, "noise", 8), draw(37, "noise"), draw(3, "noise")]
    assert not any(torch.equal(draw(3, "noise", 7), other) for other in others)


def test_streams_of_many_steps_are_uncorrelated() -> None:
    draws = torch.stack([torch.randn(256, generator=generator(0, "noise", step)) for step in range(200)])
    correlations = torch.corrcoef(draws) - torch.eye(200)
    assert abs(correlations.mean()) < 1e-3
    assert correlations.abs().max() < 0.35  # 5.5 standard deviations of 1/16


def test_seeded_weights_leave_the_global_stream_alone() -> None:
    before = torch.random.get_rng_state()
    with seeded(1, "weights"):
        one = torch.nn.Linear(3, 3).weight
    assert torch.equal(torch.random.get_rng_state(), before)
    with seeded(1, "weights"):
        assert torch.equal(torch.nn.Linear(3, 3).weight, one)
    with seeded(2, "weights"):
        assert not torch.equal(torch.nn.Linear(3, 3).weight, one)


def test_precision_follows_the_configuration() -> None:
    assert precision(ComputeConfig(device="cpu", dtype="bfloat16")) is torch.bfloat16
    assert precision(ComputeConfig(device="cpu", dtype="float32")) is torch.float32
    product = torch.ones(2, 2) @ torch.ones(2, 2)
    with autocast(ComputeConfig(device="cpu", dtype="bfloat16")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16
    with autocast(ComputeConfig(device="cpu", dtype="float32")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is product.dtype


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device(ComputeConfig(device="cuda:0")) == torch.device("cuda:0")
    with pytest.raises(ConfigError, match=r"compute\.device is 'cuda:1', but 1 CUDA devices are visible"):
        device(ComputeConfig(device="cuda:1"))


def test_a_device_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"compute\.device: 'gpu' is not auto, cpu, cuda"):
        device(ComputeConfig(device="gpu"))


@pytest.fixture
def every_product_takes_a_tenth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("rslwm.compute.time.perf_counter", lambda: next(clock) / 10)


@pytest.mark.usefixtures("every_product_takes_a_tenth_of_a_second")
def test_the_peak_is_two_flops_a_multiply_add_of_a_square_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1001)  # nobody has measured that many
    assert peak_flops(torch.device("cpu"), torch.bfloat16) == pytest.approx(2 * 2048**3 / 0.1)


def test_the_peak_is_known_to_other_processes_and_the_best_that_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(caches.ENVIRONMENT, str(tmp_path))
    rates = iter([5.0, 9.0, 7.0, 3.0])
    monkeypatch.setattr("rslwm.compute._product_rate", lambda device, dtype: next(rates))
    config, seen = ComputeConfig(device="cpu", dtype="float32", threads=1), []
    for _ in range(3):
        measure_peak(config)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        _known_peak.cache_clear()  # as in another process
        seen.append(peak_flops(torch.device("cpu"), torch.float32))
    assert seen == [5.0, 9.0, 9.0]
    caches.note(PEAKS, {})
    _known_peak.cache_clear()
    assert peak_flops(torch.device("cpu"), torch.float32) == 3.0  # nobody measured in time
    _known_peak.cache_clear()


def test_auto_is_resolved_to_what_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolved(ComputeConfig())
    assert (found.device, found.dtype) == (device(found).type, str(precision(found)).removeprefix("torch."))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert resolved(ComputeConfig()) == ComputeConfig(device="cuda", dtype="bfloat16")
    given = ComputeConfig(device="cpu", dtype="float32", threads=3)
    assert resolved(given) == given


def test_the_peak_is_measured_once_for_a_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    first = peak_flops(cpu, torch.float32)
    with monkeypatch.context() as patch:
        patch.delattr("rslwm.compute.time.perf_counter")  # another measurement would fail
        assert peak_flops(cpu, torch.float32) == first
        patch.setattr(torch, "get_num_threads", lambda: threads + 7)
        with pytest.raises(AttributeError):
            peak_flops(cpu, torch.float32)
