import time

import pytest

from rslwm.bench.timing import interleaved, paired


def test_runs_take_turns_and_the_first_one_changes():
    order: list[str] = []
    paired(lambda: order.append("o"), lambda: order.append("b"), rounds=3, warmup=1)
    assert "".join(order) == "ob" + "ob" + "bo" + "ob"


def test_warmup_is_not_counted():
    slow_once = iter([0.2])
    ours, baseline = paired(lambda: time.sleep(next(slow_once, 0)), lambda: time.sleep(0.02), rounds=2, warmup=1)
    assert (len(ours), len(baseline)) == (2, 2)
    assert max(ours) < 0.02 <= min(baseline)


def test_seconds_stay_with_their_work_whoever_goes_first():
    pauses = (0.0, 0.02, 0.06)
    seconds = interleaved([lambda pause=pause: time.sleep(pause) for pause in pauses], rounds=4, warmup=0)
    for pause, runs in zip(pauses, seconds, strict=True):
        assert len(runs) == 4
        assert all(pause <= run < pause + 0.02 for run in runs)


def test_no_round_is_refused():
    with pytest.raises(ValueError, match="rounds is 0"):
        paired(lambda: None, lambda: None, rounds=0)
