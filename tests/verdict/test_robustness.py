"""What a perturbation takes: paired by episode and window."""

from pathlib import Path

import numpy as np
import pytest

from planted import info, join, rows
from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import Rows
from rslwm.verdict.decide import Verdict, VerdictConfig, decide
from rslwm.verdict.robustness import Drop

QUICK = VerdictConfig(resamples=400)
EPISODES = np.array([f"e{i:02d}" for i in range(30)])[:, None]
WINDOWS = np.arange(3)[None]
SKILL = info("skill")
DROP = -0.2


def measured(split: str = "test", drop: float = 0.0, space: str = "a", seed: int = 0, **columns: object) -> Rows:
    """Episodes that differ by much more than what is dropped, and a little noise of each measurement."""
    hard = np.random.default_rng(0).normal(0, 0.5, (30, 1))
    noise = np.random.default_rng([seed, *split.encode(), *space.encode()]).normal(0, 0.02, (30, 3))
    value = columns.pop("value", 0.6 + hard + noise + drop)
    return rows(latent=space, metric="skill", unit=EPISODES, window=WINDOWS, split=split, value=value, **columns)


def found(table: Rows, metric: MetricInfo = SKILL) -> tuple[Drop, ...]:
    return decide(table, {metric.name: metric}, QUICK).robustness


def test_a_planted_drop_is_found_in_its_interval() -> None:
    (drop,) = found(join(measured(), measured("fog", DROP)))
    assert (drop.perturbation, drop.metric, drop.latent, drop.units) == ("fog", "skill", "a", 30)
    assert drop.value.value == pytest.approx(DROP, abs=0.01)
    assert drop.value.low < DROP < drop.value.high < 0


def test_no_drop_is_not_found() -> None:
    (drop,) = found(join(measured(), measured("fog")))
    assert drop.value.low < 0 < drop.value.high


def test_pairing_makes_the_interval_much_narrower_than_two_samples_would() -> None:
    paired, unpaired = measured("fog", DROP), measured("fog", DROP)
    shuffled = np.random.default_rng(1).permutation(30)
    strangers = Rows({**unpaired.columns, "unit": np.repeat(EPISODES[shuffled, 0], 3)})
    (close,), (wide,) = (found(join(measured(), table)) for table in (paired, strangers))
    assert wide.value.value == pytest.approx(close.value.value)
    assert wide.value.high - wide.value.low > 10 * (close.value.high - close.value.low)


def test_only_windows_that_both_have_are_compared() -> None:
    """The perturbed rows lack the hardest window, and the unperturbed an episode."""
    usual, changed = measured(), measured("fog", DROP)
    easy = changed.where(changed["value"] > changed["value"].min())
    (drop,) = found(join(usual.where(usual["unit"] != "e07"), easy))
    assert drop.units == 29
    assert drop.value.value == pytest.approx(DROP, abs=0.01)


def test_each_space_has_its_own_drop_and_one_that_was_not_measured_has_none() -> None:
    spaces = [measured(space=space) for space in "abc"]
    drops = found(join(*spaces, measured("fog", DROP, "b"), measured("fog", 2 * DROP, "c")))
    assert [(drop.latent, round(drop.value.value, 1)) for drop in drops] == [("b", -0.2), ("c", -0.4)]


def test_the_score_falls_whichever_way_the_metric_counts() -> None:
    error = info("skill", higher_is_better=False, floor_value=4.0, ceiling_value=0.0)
    (drop,) = found(join(measured(), measured("fog", 0.4)), error)
    assert drop.value.value == pytest.approx(0.4, abs=0.01)
    assert drop.score is not None
    assert drop.score.value == pytest.approx(-0.1, abs=0.01)
    assert drop.score.low < -0.1 < drop.score.high


def test_what_the_floor_changes_by_stands_beside_it() -> None:
    measurable = info("skill", floor_value=None)
    floors = [measured(value=0.2, role="floor"), measured("fog", value=0.05, role="floor")]
    (drop,) = found(join(measured(), measured("fog", DROP), *floors), measurable)
    assert drop.floor is not None
    assert drop.floor.value == pytest.approx(-0.15)
    (known,) = found(join(measured(), measured("fog", DROP)))
    assert known.floor is None


def test_a_correlation_drops_too() -> None:
    r = info("skill", "pearson")
    target = np.random.default_rng(3).normal(size=(30, 3))
    noisy = target + np.random.default_rng(4).normal(size=(30, 3))
    (drop,) = found(join(measured(value=target, target=target), measured("fog", value=noisy, target=target)), r)
    assert drop.value.value == pytest.approx(np.corrcoef(noisy.ravel(), target.ravel())[0, 1] - 1, abs=1e-6)


def test_perturbed_rows_change_nothing_in_a_verdict(tmp_path: Path) -> None:
    """Not even one of a space that is the best there."""
    usual = join(measured(space="a"), measured(space="b", drop=-0.3))
    fog = join(measured("fog", space="a", drop=-0.5), measured("fog", space="b", drop=0.3))
    decide(usual, {"skill": SKILL}, QUICK).save(tmp_path / "usual.json")
    verdict = decide(join(usual, fog), {"skill": SKILL}, QUICK)
    verdict.save(tmp_path / "both.json")
    without, both = ((tmp_path / name).read_text() for name in ("usual.json", "both.json"))
    assert '"robustness"' not in without
    loaded = Verdict.load(tmp_path / "both.json")
    assert loaded.robustness == verdict.robustness
    assert both.startswith(without.rstrip("}\n"))
