"""What changed between two runs is told with intervals, and what made it."""

from dataclasses import replace

import pytest

from rslwm.cli.report import Report
from rslwm.report.tables import latex, markdown, write_tables
from rslwm.serialisation import ConfigError, dump
from rslwm.study.record import Judged, RunRecord, judge
from rslwm.types import DataError
from rslwm.verdict.decide import VerdictConfig
from rslwm.verdict.versus import changes
from synthetic import METRICS, SPACES, measurements, write_run

INFOS = {info.name: info for info in METRICS}
FEW = VerdictConfig(resamples=100)
BETTER = SPACES | {"small-dino+16": ("semantic", 0.48, 0.80, 0.66)}


def test_a_run_beside_itself_has_changed_in_nothing():
    rows = measurements(episodes=12)
    found = changes(rows, rows, INFOS, FEW, paired=True)
    assert {change.latent for change in found} == {*SPACES}
    assert all(change.value.value == change.value.low == change.value.high == 0 for change in found)


def test_what_was_planted_is_found_and_points_to_better():
    found = changes(measurements(), measurements(skills=BETTER), INFOS, FEW, paired=True)
    error = {c.latent: c for c in found if c.info.name == "cem_error"}
    assert error["small-dino+16"].value.high < 0  # an error that is smaller
    assert error["small-dino+16"].score.low > 0.2
    assert error["small-vae"].value.low <= 0 <= error["small-vae"].value.high


def test_other_episodes_are_drawn_by_themselves():
    rows = measurements(episodes=12)
    alone = changes(rows, rows, INFOS, FEW, paired=False)
    psnr = next(change for change in alone if change.info.name == "psnr")
    assert psnr.value.value == 0
    assert psnr.value.low < 0 < psnr.value.high


def test_runs_without_a_space_in_common_are_refused():
    one, other = ({name: SPACES[name]} for name in ("small-vae", "small-dino+16"))
    with pytest.raises(DataError, match="no latent in common"):
        changes(measurements(4, skills=one), measurements(4, skills=other), INFOS, FEW, paired=True)


@pytest.fixture
def two(tmp_path):
    runs = [write_run(tmp_path / name, with_clips=False) for name in ("before", "after")]
    measurements(skills=BETTER).save(runs[1] / "rows.parquet")
    config = Judged.load(runs[1]).config
    optim = replace(config.world_model.optim, steps=900)
    dump(replace(config, world_model=replace(config.world_model, optim=optim)), runs[1] / "config.yaml")
    for run in runs:
        judge(run)
    return runs


def test_the_command_writes_a_page_on_both(two):
    Report(*two).run()
    text = (two[1] / "report" / "versus.html").read_text()
    assert "What changed from before to after?" in text
    assert '<th scope="row">world_model.optim.steps</th><td>450</td><td>900</td>' in text
    assert "the same episodes, resampled together" in text
    assert (two[1] / "report" / "versus" / "versus.png").is_file()
    with pytest.raises(ConfigError, match="--tables is of one run's report"):
        Report(*two, tables=two[0]).run()


def test_other_data_are_said_to_be_others(two):
    record = RunRecord.load(two[1])
    replace(record, data={**record.data, "fingerprint": "another"}).save(two[1])
    Report(*two).run()
    assert "other episodes, each run’s drawn by themselves" in (two[1] / "report" / "versus.html").read_text()


def test_tables_hold_the_scores(tmp_path):
    verdict = judge(write_run(tmp_path / "run", with_clips=False))
    names = {path.name for path in write_tables(verdict, tmp_path / "tables")}
    assert names == {"scores.md", "scores.tex", "metrics.md", "metrics.tex"}
    first = verdict.axes["planning"].standings[0]
    assert f"{first.score:.2f} [{first.low:.2f}, {first.high:.2f}]" in (tmp_path / "tables" / "scores.md").read_text()


def test_signs_that_mean_something_are_escaped():
    assert markdown(["a|b"], [["1"]]) == "| a\\|b |\n| --- |\n| 1 |\n"
    assert r"idm\_r $\uparrow$ & \textbf{50\%} \\" in latex(["x", "y"], [["idm_r ↑", "**50%**"]])
