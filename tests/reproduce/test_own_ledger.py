"""Our own results on record, and commands whose numbers come out the same, or don't."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from planted_run import PSNR, run_of_psnr
from rslwm.reproduce.ours import LEDGER, Expected, Job, load, read, record, within, write
from rslwm.types import DataError

COMMAND = "rslwm eval {here}/checkpoint --metrics visual"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run_of_psnr(folder)
    return folder


@pytest.fixture
def again(finished: Path) -> Callable[[str, Path], None]:
    """Runs whatever it is told by leaving the folder of the finished run."""
    return lambda line, out: shutil.copytree(finished, out, dirs_exist_ok=True) and None


def test_a_finished_run_is_recorded_with_intervals_and_tolerances(finished: Path) -> None:
    entries = record(COMMAND, finished, 12.34)
    assert {entry.latent: entry.value for entry in entries} == pytest.approx(PSNR)
    first = entries[0]
    assert (first.what, first.command, first.seconds) == ("psnr of small-vae", COMMAND, 12.3)
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.value < first.high
    assert first.tolerance == pytest.approx((first.high - first.low) / 8, rel=0.05)


def test_only_the_metrics_that_are_asked_for_are_recorded(finished: Path) -> None:
    with pytest.raises(DataError, match=r"verdict\.json holds none of ssim; name metrics that the command measures"):
        record(COMMAND, finished, 1.0, ("ssim",))


def test_a_ledger_keeps_other_commands_and_replaces_the_same_one(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "docs/results/new" / LEDGER
    write(path, record("rslwm eval a", finished, 1.0))
    write(path, record("rslwm eval b", finished, 2.0))
    write(path, record("rslwm eval a", finished, 3.0))
    assert {entry.command: entry.seconds for entry in read(path)} == {"rslwm eval b": 2.0, "rslwm eval a": 3.0}
    assert len(read(path)) == 2 * len(PSNR)


def test_what_is_measured_again_passes(finished: Path, again: Callable, tmp_path: Path) -> None:
    job = Job(tmp_path / LEDGER, COMMAND, tuple(record(COMMAND, finished, 1.0)))
    assert [one.passed for one in job.check(again, tmp_path / "out")] == [True] * len(PSNR)


def test_a_planted_wrong_value_fails(finished: Path, again: Callable, tmp_path: Path) -> None:
    entries = record(COMMAND, finished, 1.0)
    wrong = replace(entries[1], value=entries[1].value + 1.01 * entries[1].tolerance)
    checked = Job(tmp_path / LEDGER, COMMAND, (entries[0], wrong)).check(again, tmp_path / "out")
    assert [one.passed for one in checked] == [True, False]
    assert checked[1].value == pytest.approx(PSNR["small-vavae"])


def test_what_is_not_measured_any_more_fails_with_its_name(finished: Path, again: Callable, tmp_path: Path) -> None:
    gone = replace(record(COMMAND, finished, 1.0)[0], metric="ssim")
    (one,) = Job(tmp_path / LEDGER, COMMAND, (gone,)).check(again, tmp_path / "out")
    assert not one.passed
    assert one.why == "ssim of small-vae was not measured; measured: psnr"


def test_a_command_that_fails_fails_all_that_is_expected_of_it(finished: Path, tmp_path: Path) -> None:
    def broken(line: str, out: Path) -> None:
        raise DataError("no such checkpoint")

    checked = Job(tmp_path / LEDGER, COMMAND, tuple(record(COMMAND, finished, 1.0))).check(broken, tmp_path)
    assert {(one.passed, one.why) for one in checked} == {(False, "no such checkpoint")}


def test_a_command_names_the_folder_of_its_ledger(tmp_path: Path) -> None:
    assert Job(tmp_path / LEDGER, COMMAND, ()).line == f"rslwm eval {tmp_path}/checkpoint --metrics visual"


def expected(command: str, seconds: float) -> Expected:
    return Expected("", command, "psnr", "a", 1.0, 0.1, seconds)


def test_jobs_come_cheapest_first_from_all_ledgers(tmp_path: Path) -> None:
    write(tmp_path / "one" / LEDGER, [expected("slow", 300.0), expected("slow", 300.0)])
    write(tmp_path / "two" / LEDGER, [expected("quick", 20.0), expected("medium", 100.0)])
    jobs = load(tmp_path)
    assert [(job.command, len(job.expected)) for job in jobs] == [("quick", 1), ("medium", 1), ("slow", 2)]
    assert [job.command for job in within(jobs, 2.0)] == ["quick", "medium"]
    assert within(jobs, 0.1) == []


def test_without_a_ledger_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"holds no ledger\.json, .* write one with `rslwm reproduce --record .*NAME/led"
    ):
        load(tmp_path)
    with pytest.raises(DataError, match="none is no folder"):
        load(tmp_path / "none")


@pytest.mark.parametrize("text", ["{", "[]", '{"entries": [{"what": "psnr"}]}', '{"entries": [{"other": 1}]}'])
def test_a_damaged_ledger_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text(text)
    with pytest.raises(DataError, match=r"ledger\.json is no ledger of results .*record it again"):
        load(tmp_path)


def test_a_ledger_is_one_entry_a_line(finished: Path, tmp_path: Path) -> None:
    write(tmp_path / LEDGER, record(COMMAND, finished, 1.0))
    text = (tmp_path / LEDGER).read_text()
    assert len(json.loads(text)["entries"]) == len(PSNR) == sum('"what"' in line for line in text.splitlines())
