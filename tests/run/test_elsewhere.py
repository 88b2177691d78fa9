"""What executors on other machines share, with one that does its jobs here and now."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

import rslwm.run.executors.elsewhere as elsewhere
import toy_stages as toys
from rslwm.run.executors.base import EXECUTORS, Advanced, chosen
from rslwm.run.executors.elsewhere import Elsewhere, Note, needed, perform_packed
from rslwm.run.perform import PROGRESS, Done, Failed, Job, perform
from rslwm.run.runner import Runner
from rslwm.run.stage import Demand
from rslwm.serialisation import ConfigError


class Now(Elsewhere):
    def submit(self, job: Job) -> int:
        return id(job)

    def room(self, job: Job) -> bool:
        return True

    def ended(self, seconds: float):
        for handle, job in [*self.running.items()]:
            yield handle, perform_packed(job.pack())

    def close(self) -> None:
        pass


@pytest.fixture
def write(tmp_path):
    return lambda text, *after: toys.Write(label=text, text=text, trace=str(tmp_path / "trace"), after=after)


def job(tmp_path, stage) -> Job:
    return Job(stage, tmp_path / "stages")


def test_jobs_are_prepared_with_what_they_demand_before_any_starts(tmp_path, write, monkeypatch):
    heard: list[tuple[str, float]] = []

    class Listening(Now):
        def prepare(self, jobs):
            assert not (tmp_path / "trace").exists()
            heard.extend((job.stage.label, job.demand.memory) for job in jobs)
            self.jobs = 1

    monkeypatch.setitem(EXECUTORS._entries, "listening", Listening)
    demand = lambda stage: Demand(memory=len(stage.label))  # noqa: E731
    run = Runner(tmp_path, console=Console(file=io.StringIO()), executor="listening", demand=demand)
    run.run([write("top", write("a"))])
    assert heard == [("a", 1), ("top", 3)]


def test_what_is_finished_already_is_not_done_again(tmp_path, write):
    one = job(tmp_path, write("a"))
    first = perform(one)
    assert isinstance(first, Done)
    assert perform(one) == Done(round(first.seconds, 2))
    assert (tmp_path / "trace").read_text().count("start a") == 1


def test_a_need_that_the_other_machine_cannot_see_is_named(tmp_path, write, monkeypatch):
    monkeypatch.setattr(elsewhere, "VISIBLE_SECONDS", 0.0)
    failed = perform_packed(job(tmp_path, write("b", write("a"))).pack())
    assert isinstance(failed, Failed)
    assert "of write a can't be seen on" in failed.why
    assert "Put --out on a file system" in failed.remedy


def test_an_output_that_does_not_arrive_is_a_failure(tmp_path, write, monkeypatch):
    monkeypatch.setattr(elsewhere, "VISIBLE_SECONDS", 0.0)

    class Lost(Now):
        def ended(self, seconds):
            yield from ((handle, Done(1.0)) for handle in [*self.running])

    executor = Lost(1)
    executor.start(job(tmp_path, write("a")))
    ((_, failed),) = executor.poll(0.0)
    assert isinstance(failed, Failed)
    assert "can't be seen on" in failed.why


def test_how_far_a_stage_is_comes_through_its_folder_once_each(tmp_path, write):
    class Never(Now):
        def ended(self, seconds):
            yield from ()

    executor, one = Never(1), job(tmp_path, write("a"))
    executor.start(one)
    one.partial.mkdir(parents=True)
    Note(one.partial / PROGRESS)(3, 10, "loss 0.3")
    assert executor.poll(0.0) == [(one.stage, Advanced(3, 10, "loss 0.3"))]
    executor._due = 0.0
    assert executor.poll(0.0) == []


def test_notes_are_rare_and_nothing_of_them_is_left(tmp_path):
    note = Note(tmp_path / PROGRESS)
    for step in range(100):
        note(step, 100, "")
    assert json.loads((tmp_path / PROGRESS).read_text()) == [0, 100, ""]
    one = job(tmp_path, toys.Count(label="c", total=2, trace=str(tmp_path / "trace")))
    assert isinstance(perform_packed(one.pack()), Done)
    assert sorted(path.name for path in one.folder.iterdir()) == [
        "count",
        "large",
        "log.txt",
        "result.txt",
        "stage.json",
    ]


def test_what_cannot_be_unpacked_there_is_a_failed_stage():
    assert "UnpicklingError" in perform_packed(b"nonsense").why


@pytest.mark.parametrize("extra", ["ray", "slurm"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(extra):
    with pytest.raises(
        ConfigError, match=rf"executor: {extra} needs the package nowhere.*pip install 'rslwm\[{extra}\]'"
    ):
        needed(extra, "nowhere", extra)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("ray[gpu=1]", r"no setting 'gpu'; known: address, cpus, gpus, retries"),
        ("slurm[minutes=long]", r"minutes: expected int, got 'long'"),
        ("slurm[cluster=lsf]", r"'lsf' is not one of 'slurm', 'local'"),
        ("local[cpus=1]", r"local has no settings"),
        ("ray[", r"is not of the form NAME\[FIELD=VALUE"),
    ],
)
def test_settings_that_an_executor_does_not_have_are_refused(reference, message):
    with pytest.raises(ConfigError, match=message):
        chosen(reference)


def test_importing_the_package_imports_no_executors_library():
    program = "import sys, rslwm.run.runner as r; r.chosen('ray'); print({'ray', 'submitit'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"
