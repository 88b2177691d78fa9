"""The README's commands: every fenced ``bash`` block runs, in order, in one folder. ``console`` blocks are not run."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from terminal import ENVIRONMENT, Run

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SECONDS = 3600
"""Ends a command that hangs; no statement about speed."""


def blocks(text: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def small(block: str) -> str:
    """The same commands at the size of the smoke preset; ``make demo`` as what the Makefile does for it."""
    recipe = re.search(r"^demo:.*\n\t\$\(BIN\)/(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    made = re.sub(r"\bdemo\b", "smoke", block.replace("make demo", recipe[1]))
    return made.replace("rslwm bench rollout", "rslwm bench rollout --rounds 1 --size demo")


@pytest.mark.skipif(not README.is_file(), reason=f"{README} does not exist")
def test_its_commands_run(smoke: Run, tmp_path: Path):
    """Beside a finished run: what comparing from nothing does, other tests see."""
    with smoke.undisturbed:
        shutil.copytree(smoke.folder, tmp_path / "runs/smoke")
        shutil.copytree(smoke.folder / "stages", tmp_path / "runs/mine/stages")
    commands = [small(block) for block in blocks(README.read_text())]
    assert commands, "the README shows no command"
    for block in commands:
        line = ["bash", "-euo", "pipefail", "-c", block]
        ended = subprocess.run(line, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS)
        assert ended.returncode == 0, f"{block}\nended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"


def test_only_bash_blocks_are_commands():
    text = "```bash\nrslwm a\nrslwm b\n```\ntext\n```console\n$ rslwm c\n```\n```bash\nrslwm d\n```\n"
    assert blocks(text) == ["rslwm a\nrslwm b\n", "rslwm d\n"]


def test_the_demo_becomes_the_smoke_run():
    assert small("make demo\nrslwm report runs/demo") == "rslwm compare smoke --out runs/smoke\nrslwm report runs/smoke"
