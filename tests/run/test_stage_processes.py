"""A stage that several processes run at once: one folder, one message, and room for all of them."""

from pathlib import Path

import pytest

import toy_stages as toys
from rslwm.run.executors.base import fits
from rslwm.run.perform import Done, Failed, Job, perform


@pytest.mark.slow
def test_all_run_it_and_the_first_one_writes_and_reports(tmp_path: Path) -> None:
    job = Job(toys.Shared(label="a", trace=str(tmp_path / "trace")), tmp_path / "stages")
    said: list[tuple[int, int, str]] = []
    assert isinstance(perform(job, lambda *progress: said.append(progress)), Done)
    assert (job.folder / "size").read_text() == "2"
    assert (tmp_path / "trace").read_text() == "1"
    assert said == [(1, 2, "halfway")]


@pytest.mark.slow
def test_a_failure_of_any_is_the_stages(tmp_path: Path) -> None:
    job = Job(toys.Shared(label="a", text="fail", trace=""), tmp_path / "stages")
    outcome = perform(job)
    assert isinstance(outcome, Failed)
    assert outcome.why == "ValueError: the second one can't"
    assert not job.finished
    assert "the second one can't" in (job.partial / "log.txt").read_text()


def test_it_takes_as_many_places_as_it_has_processes() -> None:
    two, one = toys.Shared(label="two", trace=""), toys.Toy(label="one")
    assert fits(two, [one], 3)
    assert not fits(two, [one], 2)
    assert not fits(one, [two], 2)
    assert fits(two, [], 1)  # or it would never run
