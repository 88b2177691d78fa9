"""rslwm policy serve and rslwm policy check."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from policies import SPEC, Painter, mapping
from rslwm.actors.served import serve
from rslwm.cli.main import FAILED, main
from rslwm.remote.mapping import ActionMapping, Protocol
from rslwm.serialisation import dump


@pytest.mark.parametrize("protocol", ["act", "openpi", "vla-eval"])
def test_check_says_what_a_policy_answers_and_what_that_is_taken_for(
    protocol: Protocol, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with serve(Painter, SPEC, protocol, port=0) as server:
        dump(mapping(protocol, server.address), tmp_path / "policy.yaml")
        assert main(["policy", "check", str(tmp_path / "policy.yaml")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    grey, gripper = 0.05 * (2 * 128 / 255 - 1), 0.5 + (0.17 - 0.1) / 2
    assert f"connected to {server.address}" in printed
    assert f"taken for, in units: {{'x': {round(grey, 4)}" in printed
    assert f"'gripper': {round(gripper, 4)}}}" in printed
    assert "1 of them, normalised" in printed
    assert "0 outside the bounds" in printed


def test_check_asks_for_what_the_mapping_lacks(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with serve(Painter, SPEC, "openpi", port=0) as server:
        dump(replace(mapping("openpi", server.address), actions=ActionMapping()), tmp_path / "policy.yaml")
        assert main(["policy", "check", str(tmp_path / "policy.yaml")]) == FAILED
        assert "Add these lines" in capsys.readouterr().err
        assert main(["policy", "check", server.address]) == FAILED
    printed = capsys.readouterr()
    assert "it says of itself: {'action_spec'" in printed.out
    assert "Add these lines" in printed.err


def test_check_of_nobody(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["policy", "check", "ws://127.0.0.1:1"]) == FAILED
    assert "ws://127.0.0.1:1: connecting: " in capsys.readouterr().err


def test_an_actor_that_needs_more_than_its_name(capsys: pytest.CaptureFixture) -> None:
    assert main(["policy", "serve", "recorded", "--port", "0"]) == FAILED
    assert "serve path/to/file.py:function" in capsys.readouterr().err


def test_nobody_else_may_connect_without_a_token(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RSLWM_TOKEN", raising=False)
    assert main(["policy", "serve", "random", "--host", "0.0.0.0", "--port", "0"]) == FAILED
    assert "give a token" in capsys.readouterr().err


@pytest.mark.slow
def test_an_actor_in_a_file_of_ones_own_is_served_until_it_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from policies import Painter\n\n\ndef make():\n    return Painter()\n")
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    command = [sys.executable, "-m", "rslwm", "policy", "serve", f"{tmp_path / 'mine.py'}:make"]
    process = subprocess.Popen(
        [*command, "--protocol", "act", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().partition(" at ")[2].partition(",")[0]
        dump(mapping("act", address), tmp_path / "policy.yaml")
        assert main(["policy", "check", str(tmp_path / "policy.yaml")]) == 0
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
