"""Stages through submitit: in processes of this machine, and through commands that stand for Slurm's."""

import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

import toy_stages as toys
from clusters import SUBMITIT, needs_submitit, seen_by_others
from rslwm.run.executors.slurm import Slurm, SlurmConfig
from rslwm.run.perform import Done, Job
from rslwm.run.runner import Runner, StageFailed
from rslwm.run.stage import Demand, StageRecord
from rslwm.serialisation import ConfigError

pytestmark = needs_submitit

COMMANDS = {
    "sbatch": """
echo "$@" >> {root}/asked
case "$1" in
--test-only)
    [[ "$*" != *--cpus-per-task=99* ]] && exit 0
    echo 'sbatch: error: Requested node configuration is not available' >&2
    exit 1;;
esac
id=$(( 70 + $(ls {root}/jobs | wc -l) ))
cp "$1" {root}/jobs/$id
export SLURM_JOB_ID=$id SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
env -u OMP_NUM_THREADS setsid bash "$1" > {root}/output-$id 2>&1 &
echo "Submitted batch job $id"
""",
    "srun": """
while true; do case "$1" in --output|--error) shift 2;; --*) shift;; *) break;; esac; done
exec "$@"
""",
    "sacct": "printf 'JobID|State|NodeList\\n'; cat {root}/states 2> /dev/null; true",
    "scancel": 'echo "$1" >> {root}/cancelled',
}


@pytest.fixture
def slurm_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sbatch, srun, sacct and scancel that do as Slurm does, as far as one machine and these tests go; the folder has
    ``asked``, the lines that sbatch was called with, ``jobs``, their scripts by number, and ``cancelled``."""
    root = tmp_path / "slurm-commands"
    (root / "jobs").mkdir(parents=True)
    for name, text in COMMANDS.items():
        (root / name).write_text(
            "#!/bin/bash" + ("" if text.startswith("\n") else "\n") + text.replace("{root}", str(root))
        )
        (root / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{root}{os.pathsep}{os.environ['PATH']}")
    return root


@pytest.fixture(autouse=True)
def _imported_alike(monkeypatch):
    for name, value in seen_by_others().items():
        monkeypatch.setenv(name, value)


def runner(root: Path, executor: str = SUBMITIT, jobs: int = 2, **options) -> Runner:
    return Runner(root, jobs, console=Console(file=io.StringIO(), width=300), executor=executor, **options)


def until_done(executor: Slurm) -> list:
    seen: list = []
    while executor.running:
        seen += executor.poll(0.2)
    assert isinstance(seen[-1][1], Done)
    return seen


@pytest.mark.slow
def test_a_graph_of_stages_gives_what_it_gives_here(tmp_path):
    stages = toys.diamond(tmp_path)
    there = toys.results(runner(tmp_path / "submitit"), stages)
    assert there == toys.results(runner(tmp_path / "local", "local"), stages)
    assert there[1].startswith("1 ")  # torch had one thread


@pytest.mark.slow
def test_a_preempted_stage_is_started_again_and_goes_on(tmp_path):
    stage = toys.Count(label="slow", total=60, trace=str(tmp_path / "trace"))
    executor, job = Slurm(1, SlurmConfig(cluster="local")), Job(stage, tmp_path / "stages")
    executor.prepare([job])
    executor.start(job)
    checkpoint = job.partial / "count"
    while not (checkpoint.exists() and int(checkpoint.read_text()) >= 15):
        executor.poll(0.1)
        assert executor.running
    worker, helper = map(int, (job.partial / "pids").read_text().split())
    os.kill(helper, signal.SIGKILL)
    os.kill(worker, signal.SIGUSR2)
    until_done(executor)
    assert (job.folder / "result.txt").read_text() == "60"
    assert StageRecord.read(job.folder).attempts == 2
    assert [line.split()[0] for line in (tmp_path / "trace").read_text().splitlines()][1] != "from-0"


def test_a_job_that_ends_without_a_word_is_reported_with_its_log(tmp_path):
    with pytest.raises(StageFailed, match=r"stage toy d failed: its job \d+ ended without a result.*_log.err"):
        runner(tmp_path).run([toys.Die(label="d")])


@pytest.mark.slow
def test_slurm_is_asked_for_what_a_stage_takes_and_runs_it(tmp_path, slurm_commands):
    run = runner(tmp_path, "slurm[partition=gpu,minutes=30,memory_gb=8,account=us]")
    gpu = toys.TorchSum(label="sum", gpu=True)
    folder = run.run([gpu]).folders[gpu]
    assert (folder / "result.txt").read_text().startswith("1 ")  # the script has set the threads
    script = (slurm_commands / "jobs/70").read_text()
    wanted = ("partition=gpu", "time=30", "mem=8000M", "account=us", "cpus-per-task=1", "gpus-per-node=1")
    assert all(f"#SBATCH --{option}\n" in script for option in wanted)
    assert (tmp_path / f"slurm/toy-{gpu.key}.job").read_text() == "70"


def test_what_slurm_could_never_start_is_refused_before_anything_runs(tmp_path, slurm_commands):
    trace = tmp_path / "trace"
    stages = [toys.Write(label="a", text="a", trace=str(trace)), toys.Toy(label="wide", large=True)]
    with pytest.raises(ConfigError, match=r"stage toy wide asks Slurm for .*--cpus-per-task=99.*not available"):
        runner(tmp_path, "slurm[whole=99]").run(stages)
    asked = (slurm_commands / "asked").read_text().splitlines()
    assert all(line.startswith("--test-only") for line in asked)
    assert not trace.exists()


def test_a_request_is_checked_once_however_many_stages_make_it(tmp_path, slurm_commands):
    Slurm(0).prepare([Job(toys.Toy(label=text, text=text), tmp_path) for text in "abc"])
    assert len((slurm_commands / "asked").read_text().splitlines()) == 1


def test_a_stage_that_takes_more_memory_than_it_is_given_is_refused(tmp_path):
    run = runner(tmp_path, "slurm[cluster=local,memory_gb=4]", demand=lambda stage: Demand(memory=6e9))
    with pytest.raises(
        ConfigError, match=r"stage toy a takes 6.0 GB of memory, but slurm\[memory_gb=4\] gives it 4.0 GB"
    ):
        run.run([toys.Toy(label="a")])


def test_without_slurm_the_missing_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs the command sbatch.*slurm\[cluster=local\]"):
        runner(tmp_path, "slurm").run([toys.Toy(label="a")])


def test_a_job_of_an_earlier_run_that_still_runs_is_taken_up_again(tmp_path, slurm_commands):
    executor, job = Slurm(1), Job(toys.Toy(label="a"), tmp_path / "stages")
    (tmp_path / "slurm").mkdir()
    (tmp_path / f"slurm/{job.folder.name}.job").write_text("7")
    (slurm_commands / "states").write_text("7|RUNNING|n1\n")
    executor.start(job)
    (handle,) = executor.running
    assert handle.job_id == "7"
    assert not (slurm_commands / "asked").exists()
    executor.close()
    assert (slurm_commands / "cancelled").read_text() == "7\n"


@pytest.mark.slow
def test_a_job_of_an_earlier_run_that_has_ended_is_submitted_anew(tmp_path, slurm_commands):
    executor, job = Slurm(1), Job(toys.Toy(label="a"), tmp_path / "stages")
    (tmp_path / "slurm").mkdir()
    (tmp_path / f"slurm/{job.folder.name}.job").write_text("7")
    (slurm_commands / "states").write_text("7|CANCELLED by 0|n1\n")
    executor.start(job)
    assert isinstance(until_done(executor)[-1][1], Done)
    assert job.finished
