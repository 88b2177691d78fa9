import pytest

import toy_stages as toys
from rslwm.run.schedule import Schedule
from rslwm.run.stage import Stage


def stage(name: str, *inputs: Stage, cost: float = 1.0, exclusive: bool = False) -> Stage:
    return Stage("toy", name, toys.write, name, inputs, cost=cost, exclusive=exclusive)


def nothing(_: Stage) -> bool:
    return False


def test_the_stage_with_the_longest_chain_ahead_comes_first():
    head = stage("head", cost=1)
    schedule = Schedule([stage("wide", cost=4), stage("tail", head, cost=5)], nothing)
    assert schedule.next() == head


def test_a_stage_waits_for_its_inputs():
    data = stage("data")
    schedule = Schedule([stage("model", data)], nothing)
    assert schedule.next() == data
    assert schedule.next() is None
    schedule.finish(data, 1.0)
    assert str(schedule.next()) == "toy model"


def test_nothing_starts_beside_an_exclusive_stage():
    alone, beside = stage("alone", cost=9, exclusive=True), stage("beside")
    schedule = Schedule([alone, beside], nothing)
    assert schedule.next() == alone
    assert schedule.next() is None
    schedule.finish(alone, 1.0)
    assert schedule.next() == beside


def test_an_exclusive_stage_that_is_due_waits_until_the_others_have_ended():
    first, alone, filler = stage("first", cost=9), stage("alone", cost=5, exclusive=True), stage("filler")
    schedule = Schedule([first, alone, filler], nothing)
    assert schedule.next() == first
    assert schedule.next() is None  # the filler could start, but would keep the exclusive stage waiting
    schedule.finish(first, 1.0)
    assert schedule.next() == alone


def test_inputs_of_a_kept_stage_are_not_made_again():
    data = stage("data")
    model = stage("model", data)
    assert Schedule([model], lambda s: s == model).next() is None
    assert Schedule([model, data], lambda s: s == model).next() == data


def test_what_needs_a_failed_stage_is_blocked_to_the_end_of_the_chain():
    bad = stage("bad")
    child = stage("child", bad)
    grandchild, other = stage("grandchild", child), stage("other")
    schedule = Schedule([grandchild, other], nothing)
    assert {schedule.next(), schedule.next()} == {bad, other}
    schedule.fail(bad)
    assert schedule.blocked == [child, grandchild]
    assert schedule.next() is None


@pytest.mark.parametrize(("jobs", "seconds"), [(1, 10.0), (2, 7.0), (4, 7.0)])
def test_time_left_is_the_longer_of_the_chain_and_the_shared_work(jobs, seconds):
    head = stage("head", cost=3)
    schedule = Schedule([stage("tail", head, cost=4), stage("other", cost=3)], nothing)
    assert schedule.remaining_seconds(jobs, {}) == pytest.approx(seconds)


def test_time_left_follows_the_pace_and_what_is_done_of_a_running_stage():
    head = stage("head", cost=2)
    tail = stage("tail", head, cost=4)
    schedule = Schedule([tail], nothing)
    schedule.next()
    schedule.finish(head, 6.0)  # three times its estimate
    schedule.next()
    pace = (0.6 + 6.0) / (0.6 + 2)  # a tenth of the 6 seconds of estimated work counts as on time
    assert schedule.remaining_seconds(2, {tail: 0.25}) == pytest.approx(pace * 4 * 0.75)


def test_an_exclusive_stage_takes_all_jobs_time():
    schedule = Schedule([stage("alone", cost=4, exclusive=True), stage("a", cost=2), stage("b", cost=2)], nothing)
    assert schedule.remaining_seconds(2, {}) == pytest.approx(4 + 2)
