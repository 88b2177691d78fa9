"""Executors: of one's own, and the workers' parents."""

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

import toy_stages as toys
from rslwm.registry import UnknownName, import_file
from rslwm.run.executors.base import Advanced
from rslwm.run.executors.local import Local
from rslwm.run.perform import Done, Job, perform
from rslwm.run.runner import Runner, StageFailed

PLUGIN = """
import os
from dataclasses import dataclass
from pathlib import Path

from rslwm.run.executors.base import Advanced, Executor
from rslwm.run.perform import Job, perform
from rslwm.run.stage import Stage, Workspace


@dataclass(frozen=True, eq=False, kw_only=True)
class Mine(Stage[int]):
    kind = "mine"

    number: int

    def run(self, work: Workspace) -> None:
        if self.number < 0:
            raise ValueError("too small")
        work.progress(self.number, 9, "counting")
        os.write(1, b"made with care\\n")  # as a C library would
        (work.out / "number").write_text(str(self.number))

    def open(self, work: Workspace) -> int:
        return int((work.out / "number").read_text())


@dataclass(frozen=True, eq=False, kw_only=True)
class Sum(Stage[int]):
    kind = "sum"

    of: tuple[Mine, ...]

    def run(self, work: Workspace) -> None:
        (work.out / "sum").write_text(str(sum(map(work.open, self.of))))

    def open(self, work: Workspace) -> int:
        return int((work.out / "sum").read_text())


class Here(Executor):
    \"\"\"In this process, one at a time, as if it were elsewhere; busy when it is asked first.\"\"\"

    def __init__(self, jobs):
        super().__init__(jobs)
        self.asked, self.events = 0, []

    def room(self, job):
        self.asked += 1
        return self.asked > 1 and not self.events

    def start(self, job):
        report = lambda *values: self.events.append((job.stage, Advanced(*values)))
        self.events.append((job.stage, perform(Job.unpack(job.pack()), report)))

    def poll(self, seconds):
        events, self.events = self.events, []
        return events

    def close(self):
        Path(__file__).with_name("closed").touch()
"""


@pytest.fixture
def plugin(tmp_path):
    file = tmp_path / "plugin.py"
    file.write_text(PLUGIN)
    return file


def runner(root: Path, **options) -> Runner:
    return Runner(root, 2, console=Console(file=io.StringIO(), width=300), **options)


def test_a_stage_in_a_users_file_runs_in_workers_that_have_not_imported_it(tmp_path, plugin):
    own = import_file(plugin)
    total, run = own.Sum(label="all", of=tuple(own.Mine(label=str(n), number=n) for n in (3, 4))), runner(tmp_path)
    run.run([total])
    assert run.workspace.open(total) == 7


def test_an_executor_in_a_users_file_runs_everything_without_an_edit(tmp_path, plugin, capfd):
    own, run = import_file(plugin), runner(tmp_path, executor=f"{plugin}:Here")
    total = own.Sum(label="all", of=(own.Mine(label="3", number=3),))
    folders = run.run([total]).folders
    assert run.workspace.open(total) == 3
    assert (folders[total.of[0]] / "log.txt").read_text() == "made with care\n"
    os.write(1, b"and goes on printing\n")
    assert capfd.readouterr().out == "and goes on printing\n"
    assert (tmp_path / "closed").exists()
    with pytest.raises(StageFailed, match="stage mine -1 failed: ValueError: too small"):
        run.run([own.Mine(label="-1", number=-1)])


def test_an_executor_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(UnknownName, match=r"no executor called 'slum'.*Known: local"):
        runner(tmp_path, executor="slum")


def test_a_job_is_performed_and_followed(tmp_path, plugin):
    job, told = Job(import_file(plugin).Mine(label="a", number=5), tmp_path / "stages"), []
    assert isinstance(perform(job, lambda *event: told.append(event)), Done)
    assert told == [(5, 9, "counting")]
    assert sorted(path.name for path in job.folder.iterdir()) == ["log.txt", "number", "stage.json"]


def test_a_plugin_that_workers_cannot_import_is_a_failed_stage(tmp_path, plugin):
    stage = import_file(plugin).Mine(label="a", number=5)
    plugin.write_text("raise RuntimeError('edited meanwhile')")
    with pytest.raises(StageFailed, match="stage mine a failed: RuntimeError: edited meanwhile") as caught:
        runner(tmp_path).run([stage, toys.Toy(label="b")])
    assert [str(stage) for stage in caught.value.outcome.folders] == ["toy b"]  # of no such file


def test_large_stages_have_the_machine_for_themselves(tmp_path):
    small, large = (
        Job(stage, tmp_path / "stages")
        for stage in (
            toys.Meet(label="s", meeting=str(tmp_path), guests=99),
            toys.Toy(label="l", large=True),
        )
    )
    executor = Local(2)
    try:
        assert executor.room(small)
        assert executor.room(large)
        executor.start(small)
        assert executor.room(small)
        assert not executor.room(large)
        executor.start(Job(toys.Meet(label="s", text="t", meeting=str(tmp_path), guests=99), tmp_path / "stages"))
        assert not executor.room(small)
    finally:
        executor.close()
    assert executor.room(large)


def test_the_end_of_the_thread_that_started_a_run_is_no_end_of_its_workers(tmp_path):
    executor = Local(1)
    stage = toys.Count(label="slow", total=60, trace=str(tmp_path / "trace"))
    thread = threading.Thread(target=executor.start, args=(Job(stage, tmp_path / "stages"),))
    thread.start()
    thread.join()
    events: list[object] = []
    try:
        while not events or isinstance(events[-1], Advanced):
            events += [event for _, event in executor.poll(0.2)]
    finally:
        executor.close()
    assert isinstance(events[-1], Done)


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_a_worker_ends_with_its_parent(tmp_path):
    from test_runner_kill import gone, wait_for

    child = (
        "import os, signal, time; from rslwm.processes import end_with_parent; os.setpgid(0, 0); "
        "end_with_parent(lambda: os.killpg(os.getpgrp(), signal.SIGKILL)); time.sleep(60)"
    )
    program = (
        "import multiprocessing, time\n"
        f"worker = multiprocessing.get_context('spawn').Process(target=exec, args=({child!r}, {{}}))\n"
        "worker.start()\nprint(worker.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert wait_for(lambda: os.getpgid(worker) == worker)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: gone(worker), 10)
