import time

import pytest

from rslwm.bench.measure import Case, measure
from rslwm.serialisation import ConfigError


def case(work, **more) -> Case:
    return Case("work", work, 1, "items", **more)


def test_runs_take_turns_and_the_first_one_changes():
    order: list[str] = []
    measure([case(lambda: order.append("o")), case(lambda: order.append("b"))], rounds=3)
    assert "".join(order) == "ob" + "ob" + "bo" + "ob"


def test_neither_warm_up_nor_preparation_counts():
    slow_once = iter([0.2])
    cases = [
        case(lambda: time.sleep(next(slow_once, 0))),
        case(lambda: None, before=lambda: time.sleep(0.1)),
        case(lambda: None, warm_up=lambda: time.sleep(0.1)),
    ]
    for found in measure(cases, rounds=2):
        assert len(found.seconds) == 2
        assert max(found.seconds) < 0.1


def test_another_warm_up_stands_in_for_the_work():
    done: list[str] = []
    measure([case(lambda: done.append("work"), warm_up=lambda: done.append("small"))], rounds=1)
    assert done == ["small", "work"]


def test_seconds_stay_with_their_work_whoever_goes_first():
    pauses = (0.0, 0.02, 0.06)
    found = measure([case(lambda pause=pause: time.sleep(pause)) for pause in pauses], rounds=4)
    for pause, measurement in zip(pauses, found, strict=True):
        assert len(measurement.seconds) == 4
        assert all(pause <= run < pause + 0.02 for run in measurement.seconds)


def test_no_round_is_refused():
    with pytest.raises(ConfigError, match="rounds is 0"):
        measure([case(lambda: None)], rounds=0)
