import pytest

import toy_stages as toys
from rslwm.run.runner import Schedule
from rslwm.run.stage import Stage


def stage(name: str, *after: Stage, cost: float = 1.0, large: bool = False) -> Stage:
    return toys.Linked(label=name, text=name, after=after, cost=cost, large=large)


def room(_: Stage) -> bool:
    return True


def nothing(_: Stage) -> bool:
    return False


def test_the_stage_with_the_longest_chain_ahead_comes_first():
    head = stage("head", cost=1)
    schedule = Schedule([stage("wide", cost=4), stage("tail", head, cost=5)], nothing)
    assert schedule.next(room) == head


def test_a_stage_waits_for_its_needs():
    data = stage("data")
    schedule = Schedule([stage("model", data)], nothing)
    assert schedule.next(room) == data
    assert schedule.next(room) is None
    schedule.finish(data, 1.0)
    assert str(schedule.next(room)) == "toy model"


def test_nothing_overtakes_the_stage_that_waits_for_room():
    first, second = stage("first", cost=9), stage("second")
    schedule = Schedule([second, first], nothing)
    assert schedule.next(lambda s: s == second) is None
    assert schedule.ready == [first, second]
    assert schedule.next(lambda s: s == first) == first
    assert schedule.next(lambda s: s == second) == second


def test_needs_of_a_kept_stage_are_not_made_again():
    data = stage("data")
    model = stage("model", data)
    assert Schedule([model], lambda s: s == model).next(room) is None
    assert Schedule([model, data], lambda s: s == model).next(room) == data


def test_what_needs_a_failed_stage_is_blocked_to_the_end_of_the_chain():
    bad = stage("bad")
    child = stage("child", bad)
    grandchild, other = stage("grandchild", child), stage("other")
    schedule = Schedule([grandchild, other], nothing)
    assert {schedule.next(room), schedule.next(room)} == {bad, other}
    schedule.fail(bad)
    assert schedule.blocked == [child, grandchild]
    assert schedule.next(room) is None


@pytest.mark.parametrize(("jobs", "seconds"), [(1, 10.0), (2, 7.0), (4, 7.0)])
def test_time_left_is_the_longer_of_the_chain_and_the_shared_work(jobs, seconds):
    head = stage("head", cost=3)
    schedule = Schedule([stage("tail", head, cost=4), stage("other", cost=3)], nothing)
    assert schedule.remaining_seconds(jobs, {}) == pytest.approx(seconds)


def test_time_left_follows_the_pace_and_what_is_done_of_a_running_stage():
    head = stage("head", cost=2)
    tail = stage("tail", head, cost=4)
    schedule = Schedule([tail], nothing)
    schedule.next(room)
    schedule.finish(head, 6.0)  # three times its estimate
    schedule.next(room)
    pace = (0.6 + 6.0) / (0.6 + 2)  # a tenth of the 6 seconds of estimated work counts as on time
    assert schedule.remaining_seconds(2, {tail: 0.25}) == pytest.approx(pace * 4 * 0.75)


def test_an_exclusive_stage_takes_all_jobs_time():
    schedule = Schedule([stage("alone", cost=4, large=True), stage("a", cost=2), stage("b", cost=2)], nothing)
    assert schedule.remaining_seconds(2, {}) == pytest.approx(4 + 2)
