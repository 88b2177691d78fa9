"""The Python of docs/judges.md runs as it stands there, against a server of the tests' own."""

import re
from pathlib import Path

import pytest
from chat_server import says, serving

from rslwm.evals.judges.base import JUDGES
from rslwm.verdict.correction import Corrected

PAGE = Path(__file__).parents[3] / "docs/judges.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_its_examples_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUDGE_KEY", "some key")
    names: dict = {}
    with serving(says("The drawer stays shut.\nFinal Score: 0")) as chat:
        for block in BLOCKS:
            exec(compile(block.replace("http://localhost:8000/v1", chat.url), str(PAGE), "exec"), names)
    assert isinstance(names["found"], Corrected)
    assert names["found"].rate.low < 0.5 < names["found"].rate.high
    assert names["answered"].raw == ("The drawer stays shut.\nFinal Score: 0",)
    assert names["judge"].spent.cost == pytest.approx((1000 * 0.3 + 50 * 1.2) / 1e6)
    assert names["agreement"]["rho", "policies"].value > 0.9
    assert names["agreement"].bias.low > 0.1
    assert "12 policies in 4 tasks." in capsys.readouterr().out


def test_the_table_has_the_judges() -> None:
    listed = re.findall(r"^\| `(\w+)\(", PAGE.read_text(), re.MULTILINE)
    assert {*listed} == {JUDGES.get(name).__name__ for name in JUDGES}
