"""What happens when the main process is killed, or interrupted, in the middle of a stage."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import toy_stages as toys
from clusters import RAY, SLURM, SUBMITIT, needs_ray, needs_submitit
from rslwm.run.runner import Runner
from rslwm.run.stage import StageRecord

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")


PATIENCE = 40.0
"""Seconds; less than the stage's own process sleeps, and far more than anything takes here."""
START = 120.0
"""Seconds to begin; a busy machine starts Ray in half a minute."""


def wait_for(condition, seconds: float = PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    """Ended, or a zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def interrupted(tmp_path):
    """Start a run in a session of its own, and send it a signal once the slow stage has counted to 15."""

    def interrupt(
        send: Callable[[int, int], None], number: signal.Signals, executor: str
    ) -> tuple[subprocess.Popen, str, list[int]]:
        partial = tmp_path / f"out/stages/count-{toys.counting_chain(tmp_path)[1].key}.partial"
        process = subprocess.Popen(
            [sys.executable, "-c", f"import toy_stages; toy_stages.main({str(tmp_path)!r}, {executor!r})"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=(tmp_path / "output").open("w"),  # not a pipe, which what outlives the run would hold open
            start_new_session=True,
            # A background job of a script inherits "ignore SIGINT"; Python then never raises KeyboardInterrupt.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        checkpoint = partial / "count"
        if not wait_for(lambda: checkpoint.exists() and int(checkpoint.read_text()) >= 15, START):
            process.kill()
            pytest.fail(f"it didn't get that far in {START:.0f} s: {(tmp_path / 'output').read_text()}")
        pids = [int(pid) for pid in (partial / "pids").read_text().split()]
        assert not any(map(gone, pids))
        if executor != "local":  # nothing there leads a process group that its stage's own processes belong to
            os.kill(pids.pop(), signal.SIGKILL)
        send(process.pid, number)
        process.wait(PATIENCE)
        return process, (tmp_path / "output").read_text(), pids

    return interrupt


def counted_from(tmp_path: Path) -> list[str]:
    return [line.split()[0] for line in (tmp_path / "trace").read_text().splitlines() if "from-" in line]


def test_a_killed_run_leaves_no_process_behind_and_resumes(tmp_path, interrupted):
    _, _, pids = interrupted(os.kill, signal.SIGKILL, "local")
    assert wait_for(lambda: all(map(gone, pids))), "the worker or its stage's own process outlived the run"

    quick, slow = stages = toys.counting_chain(tmp_path)
    noted = float((tmp_path / f"out/stages/count-{slow.key}.partial/.seconds").read_text().split()[0])
    console = Console(file=io.StringIO(), width=200)
    folders = Runner(tmp_path / "out", jobs=2, console=console).run(stages).folders
    assert (folders[slow] / "result.txt").read_text() == "40"
    assert "kept      write quick" in console.file.getvalue()
    first, second = counted_from(tmp_path)
    assert first == "from-0"
    resumed_at = int(second.removeprefix("from-"))
    assert resumed_at >= 15
    record = StageRecord.read(folders[slow])
    assert record.attempts == 2
    assert record.seconds > noted + (40 - resumed_at) * 0.05
    assert StageRecord.read(folders[quick]).attempts == 1


@needs_ray
@pytest.mark.slow
def test_a_killed_run_on_ray_leaves_no_worker_behind_and_goes_on(tmp_path, interrupted):
    """Ray ends the worker some seconds after the run; the stage may end before that."""
    _, _, pids = interrupted(os.kill, signal.SIGKILL, "ray")
    assert wait_for(lambda: all(map(gone, pids)))
    _, slow = stages = toys.counting_chain(tmp_path)
    folders = Runner(tmp_path / "out", jobs=2, console=Console(file=io.StringIO(), width=200)).run(stages).folders
    assert (folders[slow] / "result.txt").read_text() == "40"
    assert "from-0" not in counted_from(tmp_path)[1:]
    assert (tmp_path / "trace").read_text().count("start quick") == 1


@needs_submitit
def test_the_next_run_waits_for_a_job_that_outlived_the_last_one_and_takes_what_it_made(tmp_path, interrupted):
    interrupted(os.kill, signal.SIGKILL, SUBMITIT)
    stages = toys.counting_chain(tmp_path)
    folders = Runner(tmp_path / "out", jobs=2, console=Console(file=io.StringIO(), width=200)).run(stages).folders
    slow = stages[-1]
    assert (folders[slow] / "result.txt").read_text() == "40"
    assert counted_from(tmp_path) == ["from-0"]
    assert StageRecord.read(folders[slow]).attempts == 1
    assert not [*(tmp_path / "out/stages").glob("*.partial")]


@pytest.mark.parametrize("executor", ["local", RAY, SLURM])
def test_ctrl_c_stops_the_workers_and_says_how_to_resume(interrupted, executor):
    process, output, pids = interrupted(os.killpg, signal.SIGINT, executor)  # as a terminal does
    assert process.returncode == 130
    assert output.splitlines()[-1] == "stopped; run the same command again to resume"
    assert "Traceback" not in output
    assert wait_for(lambda: all(map(gone, pids)))
