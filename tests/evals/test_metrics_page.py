"""The metric of docs/metrics.md runs as it stands there."""

import re
from pathlib import Path

import pytest

from measured import Subject, table
from rslwm.evals.base import named

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text()


def test_a_metric_of_your_own(evaluation: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ((name, code),) = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.M | re.S)
    (plain, set_to) = re.findall(r"--metrics '?core,(\S+?)'? --out", PAGE)
    Path(name).write_text(code)
    rows = table(plain, evaluation)
    assert rows.distinct("metric") == ("moving",)
    assert rows.distinct("k") == (2, 3, 4)
    assert (rows["value"] >= 0).all()
    assert (rows["value"] <= 1).all()
    assert rows["target"].any()
    assert named(set_to).config.threshold == 0.1
