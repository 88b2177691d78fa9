"""The example of docs/data.md runs as it stands there."""

import re
from pathlib import Path

import numpy as np

from recordings import SPEC, rendered
from rslwm.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text()


def test_a_data_source_of_your_own(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    ((name, code),) = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.M | re.S)
    (command,) = re.findall(r"^rslwm (data check .*:recordings)$", PAGE, re.M)
    Path(name).write_text(code)
    Path("recordings").mkdir()
    for i in range(2):
        rng = np.random.default_rng(i)
        np.savez(
            f"recordings/{i}.npz",
            frames=rendered(6, 16, i),
            actions=SPEC.denormalise(rng.uniform(-1, 1, (6, 7))),
            positions=rng.normal(size=(6, 3)),
            text="push the cube",
        )
    assert not main(command.split()), capsys.readouterr().out
    assert "2 episodes, 12 steps, cameras: front" in capsys.readouterr().out
