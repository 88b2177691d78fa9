"""Stages on Ray: a cluster with two CPUs on this machine."""

import io
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

import toy_stages as toys
from clusters import needs_ray, seen_by_others
from rslwm.run.events import EVENTS
from rslwm.run.executors.ray import Ray, RayConfig
from rslwm.run.perform import Done, Job
from rslwm.run.runner import Runner, StageFailed
from rslwm.run.stage import Demand, Stage, StageRecord
from rslwm.serialisation import ConfigError

pytestmark = [needs_ray, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    import ray

    options = {"include_dashboard": False, "object_store_memory": 100 << 20, "logging_level": "warning"}
    for attempt in range(3):  # Ray gives its own processes 30 seconds to start, which a busy machine may not
        try:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in seen_by_others().items():
                    patch.setenv(name, value)
                ray.init("local", num_cpus=2, **options)
            break
        except Exception:
            ray.shutdown()
            if attempt == 2:
                raise
    yield
    ray.shutdown()


def runner(root: Path, executor: str = "ray", **options) -> Runner:
    return Runner(root, 0, console=Console(file=io.StringIO(), width=300), executor=executor, **options)


def test_a_graph_of_stages_gives_what_it_gives_here(tmp_path):
    stages = toys.diamond(tmp_path)
    there = toys.results(runner(tmp_path / "ray"), stages)
    assert there == toys.results(runner(tmp_path / "local", "local"), stages)
    assert there[0] == "top(b(),middle(a()))"


def test_a_stage_has_its_threads_and_as_many_cpus(tmp_path):
    stage = toys.TorchSum(label="sum")
    (text,) = toys.results(runner(tmp_path, threads_per_job=2), [stage])
    assert text.startswith("2 ")
    wide = pytest.raises(ConfigError, match=r"stage toy wide takes 3 CPUs, but no machine .* more than 2 CPUs")
    with wide:
        runner(tmp_path, threads_per_job=3).run([toys.Toy(label="wide")])


def test_as_many_stages_run_as_there_are_cpus(tmp_path):
    (tmp_path / "meeting").mkdir()
    stages = [toys.Meet(label=text, text=text, meeting=str(tmp_path / "meeting"), guests=2) for text in "ab"]
    assert len(runner(tmp_path / "out").run(stages).folders) == 2


def test_a_stage_whose_worker_is_killed_goes_on_and_its_advance_is_heard_of(tmp_path):
    stage = toys.Count(label="slow", total=80, trace=str(tmp_path / "trace"))
    executor, job = Ray(1), Job(stage, tmp_path / "stages")
    executor.prepare([job])
    executor.start(job)
    checkpoint, seen = job.partial / "count", []
    while not (checkpoint.exists() and int(checkpoint.read_text()) >= 20):
        seen += executor.poll(0.1)
        assert executor.running, seen
    worker, helper = map(int, (job.partial / "pids").read_text().split())
    for pid in (worker, helper):
        os.kill(pid, signal.SIGKILL)
    while executor.running:
        seen += executor.poll(0.2)
    executor.close()
    assert isinstance(seen[-1][1], Done)
    assert (job.folder / "result.txt").read_text() == "80"
    assert StageRecord.read(job.folder).attempts == 2
    first, second = [line.split()[0] for line in (tmp_path / "trace").read_text().splitlines()]
    assert (first, int(second.removeprefix("from-")) >= 20) == ("from-0", True)
    assert any(event.done for _, event in seen[:-1])


def test_a_stage_that_kills_every_worker_is_reported_and_the_others_run(tmp_path):
    other = toys.Write(label="other", text="b", trace=str(tmp_path / "trace"))
    with pytest.raises(StageFailed, match=r"stage toy d failed: its worker process died.*memory ran out.*fewer jobs"):
        runner(tmp_path, "ray[retries=0]").run([toys.Die(label="d"), other])
    assert '"failed", "kind": "toy", "label": "d"' in (tmp_path / EVENTS).read_text()
    assert (tmp_path / "trace").read_text().count("end b") == 1


@pytest.mark.parametrize(
    ("stage", "memory", "message"),
    [
        (toys.Toy(label="wide"), 1e15, r"stage toy wide takes 1000000.0 GB of memory, but no machine .* batch smaller"),
        (toys.Toy(label="fast", gpu=True), 0.0, r"stage toy fast takes 64 GPUs, but no machine .* GPUs"),
    ],
)
def test_what_no_machine_has_is_refused_before_anything_runs(tmp_path, stage: Stage, memory: float, message: str):
    first = toys.Write(label="first", text="a", trace=str(tmp_path / "trace"), cost=99)
    run = runner(tmp_path, "ray[gpus=64]", demand=lambda stage: Demand(memory=memory if stage.label == "wide" else 0.0))
    with pytest.raises(ConfigError, match=message):
        run.run([first, stage])
    assert not (tmp_path / "trace").exists()


def test_an_exclusive_stage_takes_all_cpus_of_a_machine(tmp_path):
    executor = Ray(0)
    large, small = (Job(toys.Toy(label="l", large=large), tmp_path) for large in (True, False))
    executor.prepare([large, small])
    assert executor.jobs == 2
    executor.running[0] = small
    assert not executor.room(large)
    assert executor.room(small)
    executor.running[1] = small
    assert not executor.room(small)
    executor.running.clear()


def test_a_cluster_that_does_not_answer_is_named(tmp_path):
    def init(address, **options):
        raise ConnectionError("nobody there")

    executor = Ray(1, RayConfig("10.0.0.1:6379"))
    executor.ray = SimpleNamespace(init=init, is_initialized=lambda: False)
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at '10.0.0.1:6379': nobody there.*ray start --head"):
        executor.prepare([Job(toys.Toy(label="a"), tmp_path)])


def test_a_machine_that_ray_takes_for_dead_is_told(tmp_path):
    import ray

    def get(task):
        raise ray.exceptions.LocalRayletDiedError

    executor = Ray(1)
    executor.ray = SimpleNamespace(get=get, exceptions=ray.exceptions)
    assert "Ray has ended on the machine where the command runs" in executor._outcome(None).why


def test_nothing_to_do_connects_to_nobody(tmp_path):
    executor = Ray(0, RayConfig("10.0.0.1:6379"))
    executor.prepare([])
    executor.close()
    assert executor.jobs == 1
