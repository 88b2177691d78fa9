"""`rslwm runs`, on the folders of small runs."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

import toy_stages as toys
from rslwm.cli.main import main
from rslwm.run.runner import Runner, StageFailed
from rslwm.run.stage import Stage

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished study, and one in which a stage has failed and another waits for it."""

    def run(name: str, *stages: Stage) -> None:
        monkeypatch.setattr(sys, "argv", ["rslwm", "compare", "demo", "--out", name])
        Runner(tmp_path / name, 1, console=Console(file=io.StringIO())).run(stages)

    run("good", *(toys.Write(label=f"small-vae seed {n}", text=str(n), trace=str(tmp_path / "t")) for n in (0, 1)))
    bad = toys.Fail(label="small-dino seed 0", repaired="no")
    with pytest.raises(StageFailed):
        run("below/bad", bad, toys.Linked(label="x", after=(bad,)))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main(["runs", *map(str, words)])
    return code, capsys.readouterr().out


def test_list_says_how_far_each_study_is(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "list", studies)
    rows = {line.split()[0]: line.split()[1:6] for line in text.splitlines()[1:]}
    assert code == 0
    assert rows["good"] == ["finished", "demo", "1", "2", "2/2"]
    assert rows["below/bad"] == ["failed", "demo", "1", "1", "0/2"]


def test_show_names_the_command_and_why_a_stage_failed(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text = said(capsys, "show", studies / "below/bad")
    assert "rslwm compare demo --out below/bad" in text
    assert "the toy broke" in text
    states = {line.split()[0]: line for line in text.splitlines() if line.split()[:1] in (["fail"], ["toy"])}
    assert "failed" in states["fail"]
    assert "waiting" in states["toy"]


def test_verify_ends_with_1_and_the_remedy_where_a_file_was_changed(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "verify", studies)[0] == 0
    (file, *_) = (studies / "good").rglob("result.txt")
    file.write_text("9()")
    code, text = said(capsys, "verify", studies)
    assert code == 1
    assert "content: stage write small-vae seed " in text
    assert f"Delete {file.parent}, then run again: rslwm compare demo --out good" in text


def test_gc_deletes_nothing_without_yes(
    studies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = [*(studies / "good" / "stages").iterdir()]
    monkeypatch.setattr(sys, "argv", ["rslwm", "compare", "demo", "--out", "good", "--seeds", "1"])
    fresh = toys.Write(label="small-vae seed 2", text="2", trace=str(studies / "t"))
    Runner(studies / "good", 1, console=Console(file=io.StringIO())).run([fresh])
    code, text = said(capsys, "gc", studies / "good")
    assert code == 0
    assert all(str(folder) in text and folder.exists() for folder in old)
    assert "nothing is, without --yes" in text
    said(capsys, "gc", studies / "good", "--yes")
    assert not any(folder.exists() for folder in old)
    assert json.loads(next((studies / "good").rglob("stage.json")).read_text())["label"] == "small-vae seed 2"


def test_a_folder_without_studies_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", str(tmp_path)]) == 1
    assert "there is no study in or below" in capsys.readouterr().err
