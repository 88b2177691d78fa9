"""A metric that fails unexpectedly doesn't lose the others' rows."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rslwm.study.measuring import Measured, measure_each

from holders import taken
from rslwm.cli.failures import report_failures
from rslwm.data.corpus import Corpus
from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable, metric_infos
from rslwm.evals.rows import Rows
from rslwm.run.stage import RECORD
from rslwm.serialisation import ConfigError
from rslwm.study.compare import compare
from rslwm.study.record import Failure
from rslwm.types import MetricRow
from test_stages import tiny


def info(name: str) -> MetricInfo:
    return MetricInfo(name, "fidelity", True, "", "mean", "", "", "")


def row(name: str) -> MetricRow:
    return MetricRow("a", "floor", "S", 0, name, "fidelity", "test", "e", 0, 1.0, True)


class Good(Metric):
    infos = (info("good"),)
    measured = 0

    def measure(self, evaluation: Any) -> Iterator[MetricRow]:
        Good.measured += 1
        evaluation.costs["good"] = 5.0
        yield row("good")


class Bad(Metric):
    """Fails after its first row."""

    infos = (info("bad"), info("worse"))
    broken = True

    def measure(self, evaluation: Any) -> Iterator[MetricRow]:
        yield row("bad")
        if Bad.broken:
            raise KeyError("a bug of its own")


class Unasked(Metric):
    infos = (info("unasked"),)

    def measure(self, evaluation: Any) -> Iterator[MetricRow]:
        raise NotAvailable("no labels")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(METRICS, "_entries", {"bad": Bad, "good": Good, "unasked": Unasked})
    monkeypatch.setattr(METRICS, "_loaded", True)
    monkeypatch.setattr(Good, "measured", 0)

    def measure(names: str = "unasked good bad") -> tuple[Measured, dict[str, float]]:
        evaluation: Any = SimpleNamespace(costs={})
        return measure_each(evaluation, names.split(), tmp_path / "rows", lambda *_: None), evaluation.costs

    return measure


def test_the_others_rows_are_there_and_none_of_its_own(measured, capsys: pytest.CaptureFixture[str]) -> None:
    result, _ = measured()
    assert result.rows["metric"].tolist() == ["good"]
    assert [(why.metric, why.reason) for why in result.failed] == [
        ("bad", "KeyError: 'a bug of its own'"),
        ("worse", "KeyError: 'a bug of its own'"),
    ]
    assert [why.metric for why in result.unavailable] == ["unasked"]
    assert "Traceback" in capsys.readouterr().err


def test_a_second_attempt_measures_only_what_failed(measured, monkeypatch: pytest.MonkeyPatch) -> None:
    measured()
    monkeypatch.setattr(Bad, "broken", False)
    result, costs = measured()
    assert sorted(result.rows["metric"].tolist()) == ["bad", "good"]
    assert not result.failed
    assert Good.measured == 1
    assert costs == {"good": 5.0}


def test_rows_that_a_metric_does_not_declare_are_its_failure(measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bad, "measure", lambda self, evaluation: [row("good")])
    result, _ = measured()
    assert {why.metric: why.reason for why in result.failed}["bad"].startswith(
        "rslwm.types.DataError: Bad returned rows of 'good'"
    )
    assert len(result.rows) == 1


def test_a_metric_without_rows_is_listed_as_not_available(measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bad, "measure", lambda self, evaluation: [row("bad")])
    for _ in range(2):  # also when its rows are found
        result, _ = measured("bad")
        assert [(why.metric, why.reason) for why in result.unavailable] == [("worse", "its metric returned no rows")]


@pytest.mark.parametrize("changes", [{"axis": "planing"}, {"aggregate": "median"}])
def test_a_metric_of_an_unknown_axis_or_aggregate_is_refused(changes) -> None:
    with pytest.raises(ConfigError, match=r"planing|median"):
        replace(info("good"), **changes)


def test_two_metrics_of_one_name_are_refused(measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unasked, "infos", (info("good"),))
    with pytest.raises(ConfigError, match="metric 'good' of unasked"):
        metric_infos()


def test_no_metric_at_all_is_an_empty_table(measured) -> None:
    result, _ = measured("bad")
    assert len(result.rows) == 0


def test_an_interruption_is_no_failure(measured, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Metric, evaluation: Any) -> Iterator[MetricRow]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bad, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measured()


def test_failures_are_named_and_end_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        report_failures([Failure("bad", "small-vae seed 0", "KeyError: 1", "a/log.txt")])
    assert ended.value.code == 1
    assert "bad failed for small-vae seed 0: KeyError: 1 (log: a/log.txt)" in capsys.readouterr().out


PLANNER = """
from pathlib import Path
from rslwm.plan.cem import cem

def search(*arguments):
    if not Path({repaired!r}).exists():
        raise OSError("no licence for the solver")
    return cem(*arguments)
"""


@pytest.mark.slow
def test_a_study_with_a_failing_metric_ends_with_a_verdict_and_tries_again(
    corpus: Corpus, plugin: Path, tmp_path: Path
) -> None:
    """A planner of the user's own that needs something this machine lacks."""
    repaired, planner, out = tmp_path / "repaired", tmp_path / "own.py", tmp_path / "out"
    planner.write_text(PLANNER.format(repaired=str(repaired)))
    config = tiny(corpus, f"own={plugin}:PatchMean")
    plan = replace(config.evaluation.plan, planner=f"{planner}:search")
    config = replace(config, evaluation=replace(config.evaluation, plan=plan))
    free: list[bool] = []
    compare(config, out, jobs=1, finish=lambda folder: free.append(taken(folder / ".lock")))
    assert free == [False]  # no other run may come between a run and its report

    study, rows = json.loads((out / "study.json").read_text()), Rows.load(out / "rows.parquet")
    failed = {entry["metric"] for entry in study["failed"]}
    assert "cem_error" in failed
    assert not failed & set(rows["metric"])
    assert {"psnr", "one_step_error"} <= set(rows["metric"])
    assert {entry["metric"]: entry["reason"] for entry in study["unavailable"]}["cem_error"] == (
        "failed for own seed 0: OSError: no licence for the solver"
    )
    assert "Traceback" in Path(study["failed"][0]["log"]).read_text()
    assert study["spaces"][0]["numerics"] == {"device": "cpu", "dtype": "float32"}
    assert (out / "checkpoints/own/episodes.json").is_file()

    (folder,) = out.glob("stages/rows-*")
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("metrics/*.parquet")}
    trained = {path: path.stat().st_mtime_ns for path in out.glob(f"stages/world-model-*/{RECORD}")}
    assert kept
    repaired.touch()
    compare(config, out, jobs=1)
    study = json.loads((out / "study.json").read_text())
    assert study["failed"] == []
    assert "cem_error" in set(Rows.load(out / "rows.parquet")["metric"])
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert not (folder / "metrics").exists()


@pytest.mark.slow
def test_a_finished_study_goes_on_with_data_that_were_moved(corpus: Corpus, plugin: Path, tmp_path: Path) -> None:
    first, out = shutil.copytree(corpus.dataset.root, tmp_path / "first"), tmp_path / "out"
    config = tiny(corpus, f"own={plugin}:PatchMean")
    compare(replace(config, data=replace(config.data, uri=f"lerobot:{first}")), out, jobs=1)
    before = {path.name for path in out.glob("stages/*")}
    first.rename(tmp_path / "second")
    moved = replace(config, data=replace(config.data, uri=f"lerobot:{tmp_path / 'second'}"))
    compare(moved, out, jobs=1)
    assert {path.name for path in out.glob("stages/*")} == before
    more = replace(moved, evaluation=replace(moved.evaluation, clips=2))
    compare(more, out, jobs=1)  # reads the actions from where they are now
    assert len({path.name for path in out.glob("stages/*")} - before) == 1
