"""The harness that kills studies: it does, it goes on where it was, and it finds what must not happen."""

import json
import os
import sys
from pathlib import Path

import pytest
from benchmarks.kills import Killer, Ledger, NotTheSame, disturbed, made, made_again, require_same

from rslwm.evals.rows import Rows
from rslwm.run.events import EVENTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")

HERE = Path(__file__).parents[1]


def row(value: float) -> Rows:
    columns = {"latent": "a", "family": "floor", "size": "S", "seed": 0, "metric": "m", "axis": "planning"}
    return Rows.broadcast(**columns, unit="e", value=value, higher_is_better=True)


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    program = f"import toy_stages; toy_stages.main({str(tmp_path)!r}, 'local')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE / "run"), str(HERE), *sys.path])}
    folder, file = tmp_path / "out", tmp_path / "kills.jsonl"
    for total in (2, 3):  # it was stopped after the second
        ledger = Ledger(file)
        killer = Killer(ledger, total, gap=(0.2, 1.2), seed=1)
        disturbed([sys.executable, "-c", program], folder, ledger, killer, environment)
    assert len(file.read_text().splitlines()) == ledger.kills >= 2
    assert (next(folder.glob("stages/count-*")) / "result.txt").read_text() == "40"
    assert made_again(folder, ledger.finished("out")) == []


def test_a_command_that_fails_by_itself_is_no_kill(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "kills.jsonl")
    with pytest.raises(NotTheSame, match=r"ended with exit code 3; see .*out\.log"):
        disturbed([sys.executable, "-c", "exit(3)"], tmp_path / "out", ledger, Killer(ledger, 1, (60.0, 60.0)))


def finished(folder: Path, *events: str) -> dict[str, int]:
    (folder / "stages/toy-a").mkdir(parents=True)
    (folder / "stages/toy-a/stage.json").write_text("{}")
    lines = [json.dumps({"event": event, "kind": "toy", "key": "a"}) for event in events]
    (folder / EVENTS).write_text("\n".join(lines))
    return made(folder)


@pytest.mark.parametrize(
    ("events", "again"), [(("started", "started", "finished"), []), (("started", "finished", "started"), ["toy-a"])]
)
def test_a_stage_that_starts_once_it_is_finished_is_named(tmp_path: Path, events: tuple, again: list[str]) -> None:
    finished(tmp_path, *events)
    assert made_again(tmp_path, []) == again


def test_a_stage_that_is_another_than_at_a_kill_is_named(tmp_path: Path) -> None:
    then = finished(tmp_path, "started", "finished")
    assert made_again(tmp_path, [then]) == []
    os.utime(tmp_path / "stages/toy-a/stage.json", (1, 1))
    assert made_again(tmp_path, [then]) == ["toy-a"]


@pytest.mark.parametrize(("value", "same"), [(float("nan"), True), (1.0, False)])
def test_other_rows_are_named(tmp_path: Path, value: float, same: bool) -> None:
    for name, found in (("study", value), ("undisturbed", float("nan"))):
        (tmp_path / name).mkdir()
        row(found).save(tmp_path / name / "rows.parquet")
    (tmp_path / "study" / EVENTS).touch()
    if same:
        assert require_same(tmp_path / "study", tmp_path / "undisturbed", [])["rows"] == 1
    else:
        with pytest.raises(NotTheSame, match=r"column 'value' isn't that of"):
            require_same(tmp_path / "study", tmp_path / "undisturbed", [])
