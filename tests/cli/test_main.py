"""Commands, messages and exit codes."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rslwm.cli.main import COMMANDS, FAILED, INTERRUPTED, USAGE, main
from rslwm.data.conventions import read_spec
from rslwm.serialisation import ConfigError
from rslwm.types import DataError


def message(capsys) -> str:
    """What a failed command printed: one message, no traceback."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


def test_help_of_a_group_lists_only_its_commands(capsys):
    assert main(["latents", "--help"]) == 0
    listed = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert listed == [name for name in COMMANDS if name.startswith("latents ")]


def test_help_needs_no_heavy_import():
    code = "import sys; from rslwm.cli import main; main(['--help']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "rslwm.cli.main" in loaded
    assert not {"torch", "mujoco", "pyarrow", "matplotlib"} & set(loaded)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([*name.split(), "--help"])
    assert end.value.code == 0
    assert f"\n  rslwm {name}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["data"], ["nonsense"], ["data", "nonsense"], ["comapre", "demo"]])
def test_no_such_command_is_a_usage_error(words, capsys):
    assert main(words) == USAGE
    assert "usage: rslwm" in message(capsys)


def test_a_misspelt_command_is_recognised(capsys):
    main(["comapre", "demo"])
    assert "no command 'comapre'; did you mean 'compare'?" in message(capsys)


def test_an_unknown_flag_is_a_usage_error_that_names_its_neighbours(capsys):
    with pytest.raises(SystemExit) as end:
        main(["compare", "smoke", "--encoder.steps", "3"])
    assert end.value.code == USAGE
    assert "--encoder.optim.steps" in message(capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["compare", "nope"], "no preset 'nope'; presets: smoke, demo"),
        (["compare", "nope.yaml"], "nope.yaml does not exist"),
        (["compare", "smoke", "--latents", "small-vaee"], "did you mean 'small-vae'"),
        (
            ["compare", "smoke", "--latents", "a+b+c"],
            "not of the form (ALIAS=)ENCODER([CHOICE=VALUE,...])(+CHANNELS)(@SEED)",
        ),
        (["compare", "smoke", "--latents", "small-vae@nowhere"], "nothing called 'small-vae@nowhere' is shipped"),
        (["rollout", "small-vae@nowhere", "--out", "out"], "nothing called 'small-vae@nowhere' is shipped"),
        (["eval", "small-vae@nowhere", "--out", "out"], "nothing called 'small-vae@nowhere' is shipped"),
        (["bench", "policy", "small-vae@nowhere"], "nothing called 'small-vae@nowhere' is shipped"),
        (["train", "smoke", "--world-model.init", "a@nowhere"], "nothing called 'a@nowhere' is shipped"),
        (["latents", "encode", "a@nowhere", "--data", "x", "--out", "o"], "nothing called 'a@nowhere' is shipped"),
        (["ship", "nowhere", "--as", "points"], "nowhere/verdict.json does not exist; `rslwm compare` writes it"),
        (["compare", "smoke", "--data", "nonsense"], "'nonsense' has no scheme"),
        (["compare", "smoke", "--jobs", "-1"], "jobs=-1 must be 0 or more"),
        (["rollout", "nowhere", "--out", "out"], "nowhere/config.yaml does not exist"),
        (["eval", "nowhere", "--out", "out"], "nowhere/config.yaml does not exist"),
        (["latents", "check", "mine.py:Mine"], "mine.py does not exist"),
        (["data", "show", "lerobot:nowhere"], "nowhere/meta/info.json does not exist"),
        (["data", "import", "nowhere", "there"], "nowhere/dataset_info.json does not exist"),
        (["report", "nowhere"], "nowhere is no folder; name what `rslwm compare` was given as --out"),
    ],
)
def test_what_the_user_can_put_right_is_one_message_and_exit_code_1(words, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == FAILED
    printed = message(capsys)
    assert expected in printed
    assert printed.startswith("rslwm ")


def test_eval_does_not_overwrite_a_comparison(tmp_path, capsys):
    (tmp_path / "study.json").write_text("{}")
    assert main(["eval", str(tmp_path / "checkpoints/a"), "--out", str(tmp_path)]) == FAILED
    assert "holds a comparison, whose rows this would overwrite" in message(capsys)


@pytest.mark.parametrize("kind", [DataError, ConfigError])
def test_a_message_is_printed_as_it_is(kind, monkeypatch, capsys):
    from rslwm.cli.report import Report

    names = '[x,    "[bold]", ' + "long_name, " * 30 + "grüß]"
    text = f"[red]lid[/] [/x] {'word ' * 60}\n\naction_spec:\n  names: {names}\n  hz: 5.0"

    def refuse(self):
        raise kind(text)

    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(Report, "run", refuse)
    assert main(["report", "somewhere"]) == FAILED
    assert message(capsys) == f"rslwm report: {text}\n"


def test_text_that_the_terminal_cannot_show_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "grüß").mkdir()
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(shown, "ascii", "strict", write_through=True))
    assert main(["report", str(tmp_path / "grüß")]) == FAILED
    assert shown.getvalue().startswith(b"rslwm report: ")
    assert b"gr\\xfc\\xdf/rows.parquet does not exist" in shown.getvalue()


def test_check_prints_a_spec_to_copy_where_names_do_not_tell(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    folder = shutil.copytree(corpus.dataset.root, tmp_path / "foreign")
    info = json.loads((folder / "meta/info.json").read_text())
    del info["rslwm"]
    names = info["features"]["action"]["names"] = ["left arm [x]", "y", "foo", "gripper"]
    (folder / "meta/info.json").write_text(json.dumps(info))
    assert main(["data", "check", f"lerobot:{folder}"]) == FAILED
    printed = capsys.readouterr().out
    (tmp_path / "spec.yaml").write_text(printed[printed.index("\naction_spec:") :])
    assert read_spec(tmp_path / "spec.yaml").names == tuple(names)


def test_a_defect_keeps_its_traceback(monkeypatch):
    from rslwm.cli.report import Report

    def broken(self):
        raise ZeroDivisionError

    monkeypatch.setattr(Report, "run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["report", "somewhere"])


@pytest.mark.parametrize(("told", "said"), [((), "stopped"), (("stopped; run it again",), "stopped; run it again")])
def test_ctrl_c_is_exit_code_130_and_says_how_to_go_on(told, said, monkeypatch, capsys):
    from rslwm.cli.report import Report

    def interrupted(self):
        raise KeyboardInterrupt(*told)

    monkeypatch.setattr(Report, "run", interrupted)
    assert main(["report", "somewhere"]) == INTERRUPTED
    assert message(capsys) == f"{said}\n"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rslwm 0.")


def test_estimate_does_nothing(tmp_path, capsys):
    assert main(["compare", "smoke", "--estimate", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "small-siglip+16" in printed
    assert "world-model" in printed
    assert not Path(tmp_path / "run").exists()
