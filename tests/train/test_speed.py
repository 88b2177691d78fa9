"""Speed is what steps took, and nothing between them."""

import itertools

import pytest

from rslwm.train.loop import Speedometer


def test_only_the_time_inside_steps_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.chain([0.0, 2.0], [100.0, 104.0])
    monkeypatch.setattr("rslwm.train.loop.time.perf_counter", lambda: next(clock))
    speed = Speedometer(samples=12, peak=100.0)
    for _ in range(2):
        with speed.step():
            pass
    rates = speed.read(flops_per_step=60.0)
    assert rates == pytest.approx({"steps_per_second": 1 / 3, "samples_per_second": 4.0, "mfu": 0.2})
    assert str(speed) == "  4 samples/s  MFU 20%"


def test_a_reading_is_of_the_steps_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.chain([0.0, 1.0], [1.0, 1.5])
    monkeypatch.setattr("rslwm.train.loop.time.perf_counter", lambda: next(clock))
    speed, rates = Speedometer(samples=1, peak=1.0), []
    for _ in range(2):
        with speed.step():
            pass
        rates.append(speed.read(1.0)["steps_per_second"])
    assert rates == [1.0, 2.0]
