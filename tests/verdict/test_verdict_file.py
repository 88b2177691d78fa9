"""A verdict is read from its file as it was."""

import numpy as np
import pytest

from planted import INFOS, info, join, rows, study
from rslwm.types import AXES, DataError
from rslwm.verdict.decide import Verdict, VerdictConfig, decide

QUICK = VerdictConfig(resamples=400)
EPISODES = np.array([f"e{i:02d}" for i in range(30)])


@pytest.mark.parametrize("axes", [AXES, ("planning",)])
def test_the_verdict_survives_its_file_which_is_valid_json(tmp_path, axes):
    skills = {"vae": 0.4, "cosmos-vae": 0.42, "vjepa": 0.5, "dino": 0.52}
    table = study(skills, np.random.default_rng(0), seeds=2, axes=axes)
    extra = rows(latent="vae", metric="extra", unit=EPISODES, value=1.0)
    verdict = decide(join(table, extra), {**INFOS, "extra": info("extra", floor_value=None)}, QUICK)
    verdict.save(tmp_path / "verdict.json")
    assert Verdict.load(tmp_path / "verdict.json") == verdict
    assert "NaN" not in (tmp_path / "verdict.json").read_text()
    assert verdict.metrics[-1].bars[0].floor is None


def test_a_verdict_of_another_version_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match="does not exist; `rslwm compare` writes it"):
        Verdict.load(tmp_path / "verdict.json")
    for text in ("{", '{"spaces": ["a"]}', '{"remarks": []}'):
        (tmp_path / "verdict.json").write_text(text)
        with pytest.raises(DataError, match=r"no verdict of this version .* `rslwm report` writes it anew"):
            Verdict.load(tmp_path / "verdict.json")
