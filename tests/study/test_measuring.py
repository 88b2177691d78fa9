"""A metric that fails unexpectedly doesn't lose the others' rows."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from here import HERE
from holders import taken
from rslwm.cli.output import report_failures
from rslwm.data.corpus import Corpus
from rslwm.evals.aggregates import MEAN
from rslwm.evals.base import METRICS, Metric, MetricInfo, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.rows import Rows
from rslwm.run.stage import Workspace
from rslwm.serialisation import ConfigError
from rslwm.study.compare import compare
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.record import Failure
from rslwm.study.stages.metric import Measured
from rslwm.study.stages.world_model import WorldModelStage
from studies import here, made, tiny


def info(name: str) -> MetricInfo:
    return MetricInfo(name, "fidelity", True, "", MEAN, "", "", "")


def row(evaluation: Evaluation, name: str) -> Rows:
    return evaluation.rows(info(name), np.zeros((1, 2), int), np.ones(1))


class Good(Metric):
    infos = (info("good"),)
    measured = 0

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        Good.measured += 1
        evaluation.costs["good"] = 5.0
        yield row(evaluation, "good")


class Bad(Metric):
    """Fails after its first row."""

    infos = (info("bad"), info("worse"))
    broken = True

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        yield row(evaluation, "bad")
        if Bad.broken:
            raise KeyError("a bug of its own")


class Unasked(Metric):
    infos = (info("unasked"),)

    def measure(self, evaluation: Evaluation) -> Iterator[Rows]:
        raise NotAvailable("no labels")


@pytest.fixture(scope="module")
def trained(corpus: Corpus, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, Path]:
    """A study with its world model, of which nothing is measured yet."""
    config = tiny(corpus, f"own={plugin}:PatchMean")
    runner = here(tmp_path_factory.mktemp("trained"))
    runner.run([Study(config).variants[0].pull(WorldModelStage)])
    return config, runner.root


Measure = Callable[..., tuple[Measured, Workspace]]


@pytest.fixture
def measured(trained: tuple[StudyConfig, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Measure:
    """Run the metrics of these names, and put together what they gave."""
    monkeypatch.setattr(METRICS, "_entries", {"bad": Bad, "good": Good, "unasked": Unasked})
    monkeypatch.setattr(METRICS, "_loaded", True)
    monkeypatch.setattr(Good, "measured", 0)
    root = shutil.copytree(trained[1], tmp_path / "run")

    def measure(*names: str) -> tuple[Measured, Workspace]:
        (variant,) = Study(replace(trained[0], metrics=names or ("unasked", "good", "bad"))).variants
        stages, runner = [*variant.metrics.values()], here(root)
        return Measured.of(stages, runner, runner.run(stages)), runner.workspace

    return measure


def test_the_others_rows_are_there_and_none_of_its_own(measured: Measure) -> None:
    result, _ = measured()
    assert result.rows["metric"].tolist() == ["good"]
    assert [(why.metric, why.space, why.reason) for why in result.failed] == [
        ("bad", "own seed 0 bad", "KeyError: 'a bug of its own'"),
        ("worse", "own seed 0 bad", "KeyError: 'a bug of its own'"),
    ]
    assert [(why.metric, why.reason) for why in result.unavailable] == [("unasked", "no labels")]
    assert Path(result.failed[0].log).is_file()


def test_a_second_attempt_measures_only_what_failed(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    _, work = measured()
    before = made(work.root.parent)
    monkeypatch.setattr(Bad, "broken", False)
    result, _ = measured()
    after = made(work.root.parent)
    assert sorted(result.rows["metric"].tolist()) == ["bad", "good"]
    assert not result.failed
    assert Good.measured == 1
    assert {name: after[name] for name in before} == before
    (new,) = set(after) - set(before)
    assert new.startswith("metric-")


def test_rows_that_a_metric_does_not_declare_are_its_failure(
    measured: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bad, "measure", lambda self, evaluation: [row(evaluation, "good")])
    result, _ = measured()
    assert {why.metric: why.reason for why in result.failed}["bad"].startswith(
        "rslwm.types.DataError: Bad returned rows of 'good'"
    )
    assert len(result.rows) == 1


def test_a_metric_without_rows_is_listed_as_not_available(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bad, "broken", False)
    for _ in range(2):  # also when its rows are found
        result, _ = measured("bad")
        assert [(why.metric, why.reason) for why in result.unavailable] == [("worse", "its metric returned no rows")]


def test_what_measuring_costs_is_kept_with_the_rows(measured: Measure) -> None:
    _, work = measured("good")
    (folder,) = work.root.glob("metric-*")
    assert json.loads((folder / "facts.json").read_text())["costs"] == {"good": 5.0}


def test_no_metric_at_all_is_an_empty_table(measured: Measure) -> None:
    result, _ = measured("bad")
    assert len(result.rows) == 0


def test_an_interruption_is_no_failure(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Metric, evaluation: Evaluation) -> Iterator[Rows]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bad, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt, match="run the same command again to resume"):
        measured()


@pytest.mark.parametrize("changes", [{"axis": "planing"}, {"aggregate": "median"}])
def test_a_metric_of_an_unknown_axis_or_aggregate_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"planing|median"):
        replace(info("good"), **changes)


def test_failures_are_named_and_end_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        report_failures([Failure("bad", "small-vae seed 0", "KeyError: 1", "a/log.txt")])
    assert ended.value.code == 1
    assert "bad failed for small-vae seed 0: KeyError: 1 (log: a/log.txt)" in capsys.readouterr().out


PLANNER = """
from pathlib import Path
from rslwm.plan.search import cem

def search(*arguments):
    if not Path({repaired!r}).exists():
        raise OSError("no licence for the solver")
    return cem(*arguments)
"""


def test_a_study_with_a_failing_metric_ends_with_a_verdict_and_tries_again(
    trained: tuple[StudyConfig, Path], tmp_path: Path
) -> None:
    """A planner of the user's own that needs something this machine lacks."""
    repaired, planner, out = tmp_path / "repaired", tmp_path / "own.py", shutil.copytree(trained[1], tmp_path / "out")
    planner.write_text(PLANNER.format(repaired=str(repaired)))
    config = replace(trained[0], metrics=("visual", f"planning[plan.planner={planner}:search]"))
    free: list[bool] = []
    compare(config, out, executor=HERE, finish=lambda folder: free.append(taken(folder / ".lock")))
    assert free == [False]  # no other run may come between a run and its report

    study, rows = json.loads((out / "study.json").read_text()), Rows.load(out / "rows.parquet")
    failed = {entry["metric"] for entry in study["failed"]}
    assert "cem_error" in failed
    assert not failed & set(rows["metric"])
    assert "psnr" in set(rows["metric"])
    assert {entry["metric"]: entry["reason"] for entry in study["unavailable"]}["cem_error"] == (
        "failed for own seed 0 planning: OSError: no licence for the solver"
    )
    assert Path(study["failed"][0]["log"]).is_file()
    assert study["spaces"][0]["numerics"] == {"device": "cpu", "dtype": "float32"}
    assert (out / "checkpoints/own/episodes.json").is_file()
    assert (out / "verdict.json").is_file()

    (partial,) = out.glob("stages/metric-*.partial")
    before = made(out)
    repaired.touch()
    compare(config, out, executor=HERE)
    study = json.loads((out / "study.json").read_text())
    assert study["failed"] == []
    assert "cem_error" in set(Rows.load(out / "rows.parquet")["metric"])
    after = made(out)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {partial.stem}


def test_a_finished_study_goes_on_with_data_that_were_moved(corpus: Corpus, plugin: Path, tmp_path: Path) -> None:
    first, out = shutil.copytree(corpus.dataset.root, tmp_path / "first"), tmp_path / "out"
    config = replace(tiny(corpus, f"own={plugin}:PatchMean"), metrics=("visual", "one_step"))
    here(out).run(Study(replace(config, data=replace(config.data, uri=f"lerobot:{first}"))).targets)
    before = made(out)
    first.rename(tmp_path / "second")
    moved = replace(config, data=replace(config.data, uri=f"lerobot:{tmp_path / 'second'}"))
    compare(moved, out, executor=HERE)
    assert made(out) == before
    here(out).run(Study(replace(moved, metrics=("one_step[windows=2]",))).targets)
    assert len(set(made(out)) - set(before)) == 1
