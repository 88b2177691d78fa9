"""rslwm data show and check on data of others: texts as they are, what is left out, the spec to copy."""

from pathlib import Path

import yaml

from foreign import NAMES, Foreign
from rslwm.cli.main import FAILED, main
from rslwm.data.conventions import read_spec
from rslwm.data.dataset import EpisodeDataset

TEXTS = ("put [the red cube] on [/red] the plate", "把红色方块放进抽屉 [bold]\\")


def test_brackets_and_foreign_scripts_are_printed_as_they_are(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = Foreign(tasks=TEXTS).write(tmp_path / "set [/red]")
    assert main(["data", "show", f"lerobot:{root}"]) == 0
    printed = capsys.readouterr().out
    assert all(repr(text) in printed for text in TEXTS)
    assert "set [/red]" in printed
    assert main(["data", "check", f"lerobot:{root}"]) == 0
    assert "set [/red]" in capsys.readouterr().out


def test_a_fault_in_such_a_text_is_printed_too(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Foreign(tasks=TEXTS)
    made.rows["task_index"][2] = 9
    assert main(["data", "check", f"lerobot:{made.write(tmp_path / 'set [/a]')}"]) == FAILED
    printed = capsys.readouterr().out
    assert "task_index 9" in printed
    assert "[/a]" in printed


def test_the_spec_that_show_prints_can_be_given_back(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = Foreign().write(tmp_path / "set")
    assert main(["data", "show", f"lerobot:{root}"]) == 0
    printed = capsys.readouterr().out
    copied = tmp_path / "spec.yaml"
    copied.write_text(printed[printed.index("action_spec:") :])
    assert yaml.safe_load(copied.read_text())["action_spec"]["names"] == NAMES
    assert read_spec(copied) == EpisodeDataset(root).spec
    assert main(["data", "show", f"lerobot:{root}", "--data.action-spec", str(copied)]) == 0


def test_show_lists_what_is_left_out(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    reward = {"next.reward": {"dtype": "float32", "shape": [1], "names": None}}
    root = Foreign(features=reward, lengths=(8, 0, 9)).write(tmp_path / "set")
    assert main(["data", "show", f"lerobot:{root}"]) == 0
    printed = capsys.readouterr().out
    assert "features left out: next.reward float32 (1,)" in printed
    assert "empty episodes (no steps) left out: 1" in printed


def test_the_flag_that_a_message_names_is_one(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Foreign(features={"other": {"dtype": "float32", "shape": [7], "names": NAMES}})
    made.rows["other"] = made.rows["action"]
    root = made.write(tmp_path / "set")
    assert main(["data", "check", f"lerobot:{root}", "--data.features", "action=other"]) == 0
    assert main(["data", "check", f"lerobot:{root}", "--data.features", "action=none"]) == FAILED
    assert "has no feature 'none'; its features are" in capsys.readouterr().err
