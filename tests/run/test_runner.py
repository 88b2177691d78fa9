import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import rslwm.run.runner as runner_module
import toy_stages as toys
from holders import held_elsewhere, taken
from rslwm.run.perform import Failed
from rslwm.run.runner import Runner, StageFailed
from rslwm.run.stage import Stage, StageRecord
from rslwm.serialisation import ConfigError
from rslwm.types import DataError


@pytest.fixture
def make(tmp_path):
    """Stages that write a text, with a trace of what ran."""

    def stage(text: str, *after: Stage, name: str = "", **options) -> Stage:
        return toys.Write(label=name or text, text=text, trace=str(tmp_path / "trace"), after=after, **options)

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


def test_needs_run_before_what_needs_them(tmp_path, make):
    a, b = make("a"), make("b")
    top = make("top", b, make("middle", a))
    run = runner(tmp_path)
    outcome = run.run([top])
    assert (outcome.folders[top] / "result.txt").read_text() == "top(b(),middle(a()))"
    assert set(outcome.folders) == {a, b, top, *top.needs.values()}
    assert not outcome.failed
    assert run.workspace.facts(top) == {"length": 3}
    assert run.workspace.open(top) == outcome.folders[top]


def test_an_idle_worker_ends_by_itself(tmp_path):
    note = tmp_path / "note"
    runner(tmp_path).run([toys.Leave(label="a", note=str(note))])
    assert note.exists()


def test_stages_run_side_by_side(tmp_path):
    (tmp_path / "meeting").mkdir()
    stages = [toys.Meet(label=text, text=text, meeting=str(tmp_path / "meeting"), guests=2) for text in "ab"]
    assert len(runner(tmp_path / "out", jobs=2).run(stages).folders) == 2


def test_an_exclusive_stage_runs_alone(tmp_path, make):
    stages = [make(t, sleep=0.15) for t in "abc"] + [make("alone", sleep=0.15, cost=2, large=True)]
    runner(tmp_path).run([*stages[:3], make("first", sleep=0.1, cost=9), stages[3]])
    spans = {text: at for event, text, at in events(tmp_path) if event == "start"}
    ends = {text: at for event, text, at in events(tmp_path) if event == "end"}
    for other in ("a", "b", "c", "first"):
        assert ends[other] <= spans["alone"] or spans[other] >= ends["alone"]


def test_two_names_of_the_same_content_share_one_output(tmp_path, make):
    one, two = make("same", name="small-vae@0"), make("same", name="alias")
    folders = runner(tmp_path).run([one, two]).folders
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
    stages = [toys.TorchSum(label=str(seed), seed=seed) for seed in range(2)]
    texts = []
    for jobs in (1, 2):
        folders = runner(tmp_path / str(jobs), jobs).run(stages).folders
        texts.append([(folders[s] / "result.txt").read_text() for s in stages])
    assert texts[0] == texts[1]
    assert all(text.startswith("1 ") for text in texts[0])  # torch had one thread


def test_threads_per_job_reach_the_libraries(tmp_path):
    stage = toys.TorchSum(label="0")
    folder = runner(tmp_path, jobs=1, threads_per_job=2).run([stage]).folders[stage]
    assert (folder / "result.txt").read_text().startswith("2 ")


def test_the_record_says_what_a_stage_took_and_printed(tmp_path, make):
    stage = make("a", sleep=0.2)
    folder = runner(tmp_path).run([stage]).folders[stage]
    record = StageRecord.read(folder)
    assert (record.kind, record.label, record.key, record.attempts) == ("write", "a", stage.key, 1)
    assert record.seconds >= 0.2
    assert record.log == ["writing a"]
    assert record.config["text"] == "a"
    assert record.versions["torch"]
    assert sorted(p.name for p in folder.iterdir()) == ["facts.json", "log.txt", "result.txt", "stage.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset a process's peak memory")
def test_peak_memory_is_the_stages_own_not_its_predecessors(tmp_path):
    big = toys.Allocate(label="big", megabytes=200)
    small = toys.Allocate(label="small", megabytes=1, after=(big,))
    folders = runner(tmp_path, jobs=1).run([small]).folders
    peaks = {s: StageRecord.read(folders[s]).peak_bytes for s in (big, small)}
    assert peaks[big] > 200e6
    assert peaks[small] < peaks[big] - 150e6


def test_a_failing_stage_is_named_and_what_does_not_need_it_runs(tmp_path, make):
    bad, fine = toys.Fail(label="bad", repaired=str(tmp_path / "repaired")), make("independent")
    stages = [make("child", bad), fine]
    with pytest.raises(StageFailed) as caught:
        runner(tmp_path, jobs=1).run(stages)
    message, log = str(caught.value), tmp_path / f"stages/fail-{bad.key}.partial/log.txt"
    assert "stage fail bad failed: ArithmeticError: the toy broke" in message
    assert str(log) in message
    assert "not run because they need it: write child" in message
    assert "in run\n    raise ArithmeticError" in log.read_text()
    outcome = caught.value.outcome
    assert (set(outcome.folders), set(outcome.failed), outcome.blocked) == ({fine}, {bad}, stages[:1])
    assert started(tmp_path) == ["independent"]

    (tmp_path / "repaired").touch()
    runner(tmp_path).run(stages)
    assert started(tmp_path) == ["independent", "child"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (toys.Die, "killed by SIGKILL, which usually means that memory ran out.*fewer jobs"),
        (toys.Exit, "ended by itself with exit code 7"),
        (toys.FillDisk, "No space left on device.*Free disk space for"),
    ],
)
def test_a_stage_that_takes_its_worker_or_disk_down_is_reported(tmp_path, make, kind, message):
    with pytest.raises(StageFailed, match=f"stage toy broken failed: .*{message}"):
        runner(tmp_path, jobs=1).run([kind(label="broken"), make("after", cost=0.5)])
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
    assert len(runner(tmp_path).run([make("a")]).folders) == 1


def test_a_run_keeps_its_folder_while_results_are_put_together(tmp_path, make):
    with runner(tmp_path).alone():
        folders = runner(tmp_path).run([make("a")]).folders
        assert not taken(tmp_path / ".lock")
    assert taken(tmp_path / ".lock")
    assert not [*next(iter(folders.values())).glob(".lock")]


@pytest.fixture
def spared(tmp_path):
    return toys.Spared(label="metric", repaired=str(tmp_path / "repaired"))


def test_a_spared_stage_that_fails_loses_nobodys_output_and_is_tried_again(tmp_path, make, spared):
    child, fine = replace(spared, label="child", after=(spared,)), make("fine")
    run = runner(tmp_path)
    outcome = run.run([child, fine])
    assert list(outcome.folders) == [fine]
    assert outcome.failed == {spared: Failed("ArithmeticError: the toy broke")}
    assert outcome.blocked == [child]
    assert "FAILED    spared metric  ArithmeticError" in shown(run)
    assert "ArithmeticError" in run.log(spared).read_text()

    (tmp_path / "repaired").touch()
    again = runner(tmp_path).run([child, fine])
    assert set(again.folders) == {spared, child, fine}
    assert not again.failed
    assert (again.folders[spared] / "attempts").read_text() == "11"  # it went on in its folder
    assert started(tmp_path) == ["fine"]


def test_a_run_fails_that_can_not_do_without_what_needs_a_spared_stage(tmp_path, make, spared):
    with pytest.raises(StageFailed, match=r"stage spared metric failed.*\n.*need it: write child"):
        runner(tmp_path).run([make("child", spared)])


def test_a_folder_without_a_record_is_not_taken_for_finished(tmp_path, make):
    stage = make("a")
    runner(tmp_path).folder(stage).mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no stage.json"):
        runner(tmp_path).run([stage])


def test_longer_chains_start_first(tmp_path, make):
    short, long = make("short", cost=2), make("head", cost=1)
    runner(tmp_path, jobs=1).run([short, make("tail", long, cost=5)])
    assert started(tmp_path) == ["head", "tail", "short"]
