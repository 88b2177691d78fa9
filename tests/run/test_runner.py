import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

import rslwm.run.runner as runner_module
import toy_stages as toys
from holders import held_elsewhere, taken
from rslwm.run.runner import Runner, Stage, StageFailed, StageRecord
from rslwm.serialisation import ConfigError
from rslwm.types import DataError


@pytest.fixture
def make(tmp_path):
    """Stages that write a text, with a trace of what ran."""

    def stage(text: str, *inputs: Stage, name: str = "", seconds: float = 0.0, **options) -> Stage:
        config = {"text": text, "trace": str(tmp_path / "trace"), "seconds": seconds}
        return Stage("write", name or text, toys.write, config, inputs, **options)

    return stage


def runner(root: Path, jobs: int = 2, **options) -> Runner:
    return Runner(root, jobs, console=Console(file=io.StringIO(), width=300), **options)


def shown(run: Runner) -> str:
    return run.console.file.getvalue()


def events(tmp_path: Path) -> list[tuple[str, str, float]]:
    lines = (tmp_path / "trace").read_text().splitlines()
    return [(event, text, float(at)) for event, text, at in map(str.split, lines)]


def started(tmp_path: Path) -> list[str]:
    return [text for event, text, _ in events(tmp_path) if event == "start"]


def test_inputs_run_before_what_needs_them_and_are_passed_in_order(tmp_path, make):
    a, b = make("a"), make("b")
    top = make("top", b, make("middle", a))
    folders = runner(tmp_path).run([top])
    assert (folders[top] / "result.txt").read_text() == "top(b(),middle(a()))"
    assert set(folders) == {a, b, top, *top.inputs}


def test_an_idle_worker_ends_by_itself(tmp_path):
    note = tmp_path / "note"
    runner(tmp_path).run([Stage("note", "a", toys.leave_a_note, {"note": str(note)})])
    assert note.exists()


def test_stages_run_side_by_side(tmp_path):
    (tmp_path / "meeting").mkdir()
    config = {"meeting": str(tmp_path / "meeting"), "guests": 2}
    stages = [Stage("meet", text, toys.meet, {**config, "text": text}) for text in "ab"]
    assert len(runner(tmp_path / "out", jobs=2).run(stages)) == 2


def test_an_exclusive_stage_runs_alone(tmp_path, make):
    stages = [make(t, seconds=0.15) for t in "abc"] + [make("alone", seconds=0.15, cost=2, exclusive=True)]
    runner(tmp_path).run([*stages[:3], make("first", seconds=0.1, cost=9), stages[3]])
    spans = {text: at for event, text, at in events(tmp_path) if event == "start"}
    ends = {text: at for event, text, at in events(tmp_path) if event == "end"}
    for other in ("a", "b", "c", "first"):
        assert ends[other] <= spans["alone"] or spans[other] >= ends["alone"]


def test_two_names_of_the_same_content_share_one_output(tmp_path, make):
    one, two = make("same", name="small-vae@0"), make("same", name="alias")
    folders = runner(tmp_path).run([one, two])
    assert folders[one] == folders[two]
    assert started(tmp_path) == ["same"]


def test_finished_stages_are_kept_and_shown_as_kept(tmp_path, make):
    stages = [make("b", make("a"))]
    runner(tmp_path).run(stages)
    again = runner(tmp_path)
    again.run(stages)
    assert sorted(started(tmp_path)) == ["a", "b"]
    assert "kept      write b" in shown(again)
    assert "started" not in shown(again)


def test_a_changed_config_runs_only_what_depends_on_it(tmp_path, make):
    def study(encoder: str) -> list[Stage]:
        data = make("data")
        return [make("model", make(encoder, data)), make("probe", data)]

    runner(tmp_path).run(study("encoder"))
    before = len(started(tmp_path))
    runner(tmp_path).run(study("other-encoder"))
    assert started(tmp_path)[before:] == ["other-encoder", "model"]


def test_results_do_not_depend_on_the_number_of_jobs(tmp_path):
    stages = [Stage("sum", str(seed), toys.torch_sum, {"seed": seed}) for seed in range(2)]
    texts = []
    for jobs in (1, 2):
        folders = runner(tmp_path / str(jobs), jobs).run(stages)
        texts.append([(folders[s] / "result.txt").read_text() for s in stages])
    assert texts[0] == texts[1]
    assert all(text.startswith("1 ") for text in texts[0])  # torch had one thread


def test_threads_per_job_reach_the_libraries(tmp_path):
    stage = Stage("sum", "0", toys.torch_sum, {"seed": 0})
    folder = runner(tmp_path, jobs=1, threads_per_job=2).run([stage])[stage]
    assert (folder / "result.txt").read_text().startswith("2 ")


def test_the_record_says_what_a_stage_took_and_printed(tmp_path, make):
    stage = make("a", seconds=0.2)
    folder = runner(tmp_path).run([stage])[stage]
    record = StageRecord.read(folder)
    assert (record.kind, record.name, record.key, record.attempts) == ("write", "a", stage.key, 1)
    assert record.seconds >= 0.2
    assert record.log == ["writing a"]
    assert record.config["text"] == "a"
    assert record.versions["torch"]
    assert sorted(p.name for p in folder.iterdir()) == ["log.txt", "result.txt", "stage.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset a process's peak memory")
def test_peak_memory_is_the_stages_own_not_its_predecessors(tmp_path):
    big = Stage("allocate", "big", toys.allocate, {"megabytes": 200})
    small = Stage("allocate", "small", toys.allocate, {"megabytes": 1}, inputs=(big,))
    folders = runner(tmp_path, jobs=1).run([small])
    peaks = {s: StageRecord.read(folders[s]).peak_bytes for s in (big, small)}
    assert peaks[big] > 200e6
    assert peaks[small] < peaks[big] - 150e6


def test_a_failing_stage_is_named_and_what_does_not_need_it_runs(tmp_path, make):
    bad = Stage("fail", "bad", toys.fail, {"repaired": str(tmp_path / "repaired")})
    stages = [make("child", bad), make("independent")]
    with pytest.raises(StageFailed) as caught:
        runner(tmp_path, jobs=1).run(stages)
    message, log = str(caught.value), tmp_path / f"stages/fail-{bad.key}.partial/log.txt"
    assert "stage fail bad failed: ArithmeticError: the toy broke" in message
    assert str(log) in message
    assert "not run because they need it: write child" in message
    assert "in fail\n    raise ArithmeticError" in log.read_text()
    assert started(tmp_path) == ["independent"]

    (tmp_path / "repaired").touch()
    runner(tmp_path).run(stages)
    assert started(tmp_path) == ["independent", "child"]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (toys.die, "killed by SIGKILL, which usually means that memory ran out.*fewer jobs"),
        (toys.leave, "ended by itself with exit code 7"),
        (toys.fill_disk, "No space left on device.*Free disk space for"),
    ],
)
def test_a_stage_that_takes_its_worker_or_disk_down_is_reported(tmp_path, make, run, message):
    with pytest.raises(StageFailed, match=f"stage toy broken failed: .*{message}"):
        runner(tmp_path, jobs=1).run([Stage("toy", "broken", run), make("after", cost=0.5)])
    assert started(tmp_path) == ["after"]


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path, make):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"can't make the output folder .*file/out"):
        runner(tmp_path / "file" / "out").run([make("a")])


def test_two_runs_cannot_share_a_folder(tmp_path, make, monkeypatch):
    monkeypatch.setattr(runner_module, "LOCK_SECONDS", 0.0)
    refused = pytest.raises(ConfigError, match=r"in use by another run.*by process \d+")
    with held_elsewhere(tmp_path / ".lock"), refused:
        runner(tmp_path).run([make("a")])
    assert len(runner(tmp_path).run([make("a")])) == 1


def test_a_run_keeps_its_folder_while_results_are_put_together(tmp_path, make):
    with runner(tmp_path).alone():
        folders = runner(tmp_path).run([make("a")])
        assert not taken(tmp_path / ".lock")
    assert taken(tmp_path / ".lock")
    assert not [*next(iter(folders.values())).glob(".lock")]


def test_a_reopened_stage_goes_on_from_what_it_left(tmp_path, make):
    stage, run = make("a"), runner(tmp_path)
    run.run([stage])
    (run.folder(stage) / "kept").touch()
    run.reopen(stage)
    assert run.estimate([stage])[0].state == "interrupted"
    assert (run.run([stage])[stage] / "kept").exists()


def test_a_folder_without_a_record_is_not_taken_for_finished(tmp_path, make):
    stage = make("a")
    runner(tmp_path).folder(stage).mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no stage.json"):
        runner(tmp_path).run([stage])


def test_estimate_touches_nothing_and_says_what_exists(tmp_path, make):
    run = runner(tmp_path / "out")
    data, model = make("data", cost=3), make("model", make("data", cost=3), cost=5)
    assert [(e.stage, e.state, e.seconds) for e in run.estimate([model])] == [(data, "new", 3), (model, "new", 5)]
    assert not (tmp_path / "out").exists()
    run.run([data])
    assert [(e.state, e.seconds) for e in run.estimate([model])] == [("finished", 0), ("new", 5)]


def test_longer_chains_start_first(tmp_path, make):
    short, long = make("short", cost=2), make("head", cost=1)
    runner(tmp_path, jobs=1).run([short, make("tail", long, cost=5)])
    assert started(tmp_path) == ["head", "tail", "short"]
