"""Pieces of a study, joined, are the study."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rslwm.cli.report import Join, Report
from rslwm.evals.rows import Rows
from rslwm.serialisation import ConfigError, dump
from rslwm.study.join import join
from rslwm.study.record import Judged, RunRecord, judge
from rslwm.types import DataError
from synthetic import measurements, write_run


def piece(run: Path, to: Path, seeds: tuple[int, ...]) -> Path:
    """A run as if only these seeds of it had been trained."""
    shutil.copytree(run, to)
    whole = Judged.load(run)
    whole.rows.where([seed in seeds for seed in whole.rows["seed"].tolist()]).save(to / "rows.parquet")
    dump(replace(whole.config, first_seed=min(seeds), seeds=len(seeds)), to / "config.yaml")
    replace(whole.record, spaces=tuple(replace(s, seeds=seeds) for s in whole.record.spaces)).save(to)
    return to


@pytest.fixture
def whole(tmp_path):
    return write_run(tmp_path / "whole", seeds=3)


@pytest.fixture
def pieces(whole, tmp_path):
    return piece(whole, tmp_path / "a", (0,)), piece(whole, tmp_path / "b", (1, 2))


def test_pieces_joined_are_decided_as_the_whole(whole, pieces, tmp_path):
    there = judge(whole)
    here = join(pieces, tmp_path / "joined")
    assert here.seeds == 3
    assert here.axes == there.axes
    assert len(Rows.load(tmp_path / "joined/rows.parquet")) == len(measurements(seeds=3))


def test_the_order_of_pieces_changes_no_decision(pieces, tmp_path):
    one, other = (join(order, tmp_path / f"{i}") for i, order in enumerate((pieces, pieces[::-1])))
    assert one.axes == other.axes


def test_it_remembers_all_seeds_and_the_costs_of_each(pieces, tmp_path):
    record = RunRecord.load(pieces[0])
    spaces = (replace(record.spaces[0], cost={**record.spaces[0].cost, "training_seconds": 121.0}), *record.spaces[1:])
    replace(record, spaces=spaces).save(pieces[0])
    join(pieces, tmp_path / "joined")
    first = Judged.load(tmp_path / "joined")
    assert first.record.spaces[0].seeds == (0, 1, 2)
    assert first.record.spaces[0].cost["training_seconds"] == pytest.approx((121 + 2 * 61) / 3)
    assert (first.config.seeds, first.config.first_seed) == (3, 0)


def test_another_configuration_is_no_piece(pieces, tmp_path):
    config = Judged.load(pieces[1]).config
    optim = replace(config.world_model.optim, steps=451)
    dump(replace(config, world_model=replace(config.world_model, optim=optim)), pieces[1] / "config.yaml")
    with pytest.raises(ConfigError, match=r"aren't pieces of one study: world_model.optim.steps 450 there, 451 here"):
        join(pieces, tmp_path / "joined")


def test_what_was_measured_on_other_episodes_is_no_piece(pieces, tmp_path):
    record = RunRecord.load(pieces[1])
    replace(record, data=record.data | {"fingerprint": "0ther"}).save(pieces[1])
    with pytest.raises(ConfigError, match=r"on other episodes \(fingerprints a61c0ffee123 and 0ther\)"):
        join(pieces, tmp_path / "joined")


def test_a_seed_twice_is_refused(pieces, tmp_path):
    shutil.copytree(pieces[0], tmp_path / "again")
    with pytest.raises(ConfigError, match=r"small-vae was trained under seed 0 in .*a and in .*again"):
        join((*pieces, tmp_path / "again"), tmp_path / "joined")


def test_a_run_of_its_own_is_not_written_over(pieces):
    with pytest.raises(ConfigError, match="is a run of its own"):
        join(pieces, pieces[0])


def test_a_folder_without_a_run_is_named(pieces, tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*does not exist"):
        join((pieces[0], tmp_path / "nowhere"), tmp_path / "joined")


def test_the_command_writes_a_report(pieces, tmp_path, capsys):
    Join(pieces, tmp_path / "joined").run()
    assert (tmp_path / "joined/report/index.html").is_file()
    assert "small-vjepa+16" in capsys.readouterr().out


def test_one_run_is_nothing_to_join(pieces, tmp_path):
    with pytest.raises(ConfigError, match="two or more"):
        Join(pieces[:1], tmp_path / "joined").run()


def test_what_is_published_is_judged_as_the_run_and_has_no_videos(whole, tmp_path, capsys):
    Report(whole, publish=tmp_path / "there").run()
    assert "published" in capsys.readouterr().out
    assert judge(tmp_path / "there").axes == judge(whole).axes
    assert not (tmp_path / "there/clips").exists()
    page, own = (path / "report/index.html" for path in (tmp_path / "there", whole))
    assert page.stat().st_size < own.stat().st_size
