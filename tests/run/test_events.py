import io
import json

import pytest
from rich.console import Console

import toy_stages as toys
from rslwm.run.events import ADVANCED_SECONDS, EVENTS, EventLog
from rslwm.run.runner import Runner, StageFailed

A = toys.Toy(label="encoder")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]


def test_a_run_writes_what_became_of_its_stages(tmp_path):
    good = toys.Write(label="good", text="a", trace=str(tmp_path / "trace"))
    bad = toys.Fail(label="bad", repaired=str(tmp_path / "no"))
    with pytest.raises(StageFailed):
        Runner(tmp_path, 1, console=Console(file=io.StringIO())).run([good, bad])
    found = lines(tmp_path)
    assert [(line["event"], line["label"]) for line in found if line["kind"] == "fail"] == [
        ("started", "bad"),
        ("failed", "bad"),
    ]
    assert [line["event"] for line in found if line["key"] == good.key] == ["started", "finished"]
    assert "ArithmeticError: the toy broke" in next(line["why"] for line in found if line["event"] == "failed")
    assert all(line["time"].endswith("+00:00") and line["seconds"] >= 0 for line in found)


def test_how_far_a_stage_is_comes_every_few_seconds_at_most(tmp_path):
    clock = Clock()
    with EventLog(tmp_path / EVENTS, clock) as log:
        log.started(A)
        for step in range(100):
            clock.now += 0.2
            log.advanced(A, step, 100, "loss 0.3")
    advanced = [line for line in lines(tmp_path) if line["event"] == "advanced"]
    assert len(advanced) == 20 / ADVANCED_SECONDS
    assert advanced[1]["done"] == 25
    assert advanced[1]["total"] == 100
    assert advanced[1]["message"] == "loss 0.3"
    assert advanced[1]["seconds"] == pytest.approx(5.2)


def test_the_next_run_goes_on_below_a_line_that_a_kill_cut_short(tmp_path):
    (tmp_path / EVENTS).write_text('{"event": "started"}\n{"event": "adv')
    with EventLog(tmp_path / EVENTS) as log:
        log.started(A)
    first, torn, last = (tmp_path / EVENTS).read_text().splitlines()
    assert (json.loads(first)["event"], torn) == ("started", '{"event": "adv')
    assert json.loads(last)["label"] == "encoder"


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / EVENTS).mkdir()
    with EventLog(tmp_path / EVENTS) as log:
        log.started(A)
        log.finished(A, 1.0)
    assert [*(tmp_path / EVENTS).iterdir()] == []
