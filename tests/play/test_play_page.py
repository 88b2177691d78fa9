"""The Python of docs/play.md runs as it stands there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/play.md"


def test_a_session_is_driven_without_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a run that has left no world models: the simulator alone."""
    (tmp_path / "runs/demo/checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(compile(block, str(PAGE), "exec"), names)
    assert names["node"].depth == 5
    assert names["session"].here.depth == 4
    assert len(capsys.readouterr().out.splitlines()) == 6
