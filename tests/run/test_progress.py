import io

import pytest
from rich.console import Console

import toy_stages as toys
from rslwm.run.progress import Display, duration
from rslwm.run.runner import Schedule
from rslwm.run.stage import Stage

A = toys.Toy(label="encoder", cost=10)
B = toys.Linked(label="model", after=(A,), cost=30)


def room(_: Stage) -> bool:
    return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def screen(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=200)


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "7 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (59.6, "1 min 00 s")]
)
def test_durations_read_like_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_the_time_left_of_a_resumed_stage_ignores_its_head_start():
    clock, console, schedule = Clock(), screen(), Schedule([B], lambda s: s == A)
    with Display(console, schedule, 1, clock) as view:
        schedule.next(room)
        view.started(B)
        for done, seconds in ((80, 15.0), (90, 20.0)):
            clock.now += seconds
            view.advanced(B, done, 100, "")
            view.tick()
    first, second = console.file.getvalue().splitlines()[2:]
    assert first.endswith("toy model 80/100")
    assert second.endswith("toy model 90/100  20 s left")


def test_plain_lines_for_starts_ends_and_kept_stages_and_rarely_in_between():
    clock, console, schedule = Clock(), screen(), Schedule([B], lambda s: s == A)
    with Display(console, schedule, 1, clock) as view:
        schedule.next(room)
        view.started(B)
        for _ in range(100):
            clock.now += 0.4
            view.advanced(B, 5, 10, "loss 0.3")
            view.tick()
        schedule.finish(B, 40.0)
        view.finished(B, 40.0)
    kept, started, *between, finished, overall = console.file.getvalue().splitlines()
    assert kept == "kept      toy encoder"
    assert started == "started   toy model"
    assert len(between) == 2  # 40 s
    assert between[0].startswith("1/2 stages  15 s  about 15 s left")
    assert between[0].endswith("toy model 5/10  loss 0.3")
    assert finished == "finished  toy model  40 s"
    assert overall == "2/2 stages  40 s"


def test_bars_show_running_stages_on_a_terminal():
    console, schedule = screen(terminal=True), Schedule([B], lambda s: s == A)
    with Display(console, schedule, 1) as view:
        schedule.next(room)
        view.started(B)
        view.advanced(B, 5, 10, "loss 0.3")
        view.tick()
        view.bars.refresh()
        schedule.fail(B)
        view.failed(B, "it broke")
    text = console.file.getvalue()
    assert "5/10  loss 0.3" in text
    assert "all stages" in text
    assert "FAILED    toy model  it broke" in text
    assert "started" not in text
