"""`rslwm reproduce`: what it prints and its exit codes, and `--against paper`."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from planted_run import run_of_psnr
from rslwm.cli import reproduce
from rslwm.cli.main import FAILED, main
from rslwm.reproduce import ledger, ours, results
from rslwm.reproduce.ours import LEDGER, Expected, read, write
from rslwm.reproduce.paper import tables
from rslwm.types import DataError


def test_the_overview_has_every_table_and_says_what_is_missing(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce"]) == 0
    printed = capsys.readouterr().out
    assert all(table.title in printed for table in tables())
    assert "BridgeData V2 (rlds:bridge_dataset/1.0.0)" in printed
    assert "reproduced: a result of ours that the package ships agrees" in printed


def test_a_table_in_full_has_command_expected_value_interval_and_state(capsys: pytest.CaptureFixture) -> None:
    assert main(["reproduce", "vjepa2.1+96", "--table", "10"]) == 0
    printed = capsys.readouterr().out
    assert "V-JEPA2.1_d96, DiT-S: 10 planned" in printed
    assert "0.362 ± 0.038 binomial standard error, n = 160" in printed
    assert "VA-VAE" not in printed
    assert main(["reproduce", "VA-VAE", "--table", "8"]) == 0
    printed = capsys.readouterr().out
    assert "rslwm compare bridge --data rlds:bridge_dataset/1.0.0 --latents va-vae --sizes S" in printed
    assert "missing here: BridgeData V2" in printed


def test_words_are_shown_where_a_table_has_no_numbers(capsys: pytest.CaptureFixture) -> None:
    assert main(["reproduce", "--table", "7"]) == 0
    assert "close oven -> open the oven, Action reversal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "5"], "--table '5': there is none; tables: 1, 2, 3, 4, 6"),
        (["nothing"], "'nothing': no row's latent space has that in its name"),
        (["--run", "--table", "8"], "nothing of --table 8 follows from sizes; tables 4 and gamma do"),
        (["--record", "x.json"], "--record: name what gives the numbers with --command"),
        (["--ours", "--results", "nowhere"], "nowhere is no folder, so there are no results of ours"),
    ],
)
def test_what_can_not_be_done_is_one_message(words: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["reproduce", *words]) == FAILED
    assert message in capsys.readouterr().err


def test_time_shifts_are_computed_again_and_pass(capsys: pytest.CaptureFixture) -> None:
    assert main(["reproduce", "--run", "--table", "gamma"]) == 0
    assert "12 of 12 numbers within their tolerance" in capsys.readouterr().out


def test_a_computed_number_that_is_not_as_printed_is_exit_code_1(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gamma,) = [table for table in tables() if table.name == "gamma"]
    first, *rest = gamma.rows
    wrong = replace(first, cells=(replace(first.cells[0], value=1.01),))
    monkeypatch.setattr(reproduce, "tables", lambda: (replace(gamma, rows=(wrong, *rest)),))
    assert main(["reproduce", "--run", "--table", "gamma"]) == FAILED
    printed = capsys.readouterr().out
    assert printed.count("FAIL") == 1
    assert "11 of 12 numbers within their tolerance" in printed


def test_what_was_computed_is_written_as_the_package_ships_it(tmp_path: Path) -> None:
    assert main(["reproduce", "--run", "--table", "gamma", "--out", str(tmp_path / "results.json")]) == 0
    entries = json.loads((tmp_path / "results.json").read_text())["results"]
    shipped = [r for key, r in results.committed().items() if key[-1] == "gamma"]
    assert [entry["value"] for entry in entries] == [result.value for result in shipped]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Values of psnr by command line, in place of running it."""
    values: dict[str, float] = {}

    def numbers(folder: Path) -> dict:
        value = json.loads((folder / "value.json").read_text())
        return {("a", "psnr"): Expected("", "", "psnr", "a", value, 0, 0, value - 0.4, value + 0.4)}

    def execute(line: str, out: Path) -> None:
        if line not in values:
            raise DataError(f"{line} is unknown")
        out.mkdir(exist_ok=True, parents=True)
        (out / "value.json").write_text(json.dumps(values[line]))

    monkeypatch.setattr(reproduce, "execute", execute)
    monkeypatch.setattr(ours, "numbers", numbers)
    return values


def test_our_results_are_recorded_and_come_out_again(
    runner: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    runner["rslwm eval x"] = 20.0
    path = tmp_path / "small" / LEDGER
    assert main(["reproduce", "--record", str(path), "--command", "rslwm eval x"]) == 0
    assert [(e.value, e.low, e.high, e.tolerance) for e in read(path)] == [(20.0, 19.6, 20.4, 0.1)]
    assert main(["reproduce", "--ours", "--results", str(tmp_path)]) == 0
    assert "1 of 1 numbers within their tolerance" in capsys.readouterr().out


def test_a_result_that_does_not_come_out_again_is_exit_code_1(
    runner: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    runner |= {"rslwm eval x": 20.0, "rslwm eval y": 21.0}
    write(tmp_path / LEDGER, [Expected(c, f"rslwm eval {c}", "psnr", "a", 20.0, 0.1, 1.0) for c in "xy"])
    assert main(["reproduce", "--ours", "--results", str(tmp_path)]) == FAILED
    printed = capsys.readouterr().out
    assert (printed.count("pass"), printed.count("FAIL")) == (1, 1)
    assert "1 of 2 numbers within their tolerance" in printed


def test_only_what_fits_the_minutes_is_run(
    runner: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    runner["rslwm eval quick"] = 20.0
    entries = [
        Expected("", f"rslwm eval {c}", "psnr", "a", 20.0, 0.1, s) for c, s in (("quick", 100.0), ("slow", 900.0))
    ]
    write(tmp_path / LEDGER, entries)
    assert main(["reproduce", "--ours", "--results", str(tmp_path)]) == 0
    assert "1 of 1 numbers within their tolerance; 1 commands left out, see --minutes" in capsys.readouterr().out
    assert main(["reproduce", "--ours", "--results", str(tmp_path), "--minutes", "1"]) == FAILED
    assert "the cheapest command on record takes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ls", r"'ls' is no command to run again: write 'rslwm \.\.\.' without --out"),
        ("rslwm eval x --out y", "is no command to run again"),
        ("rslwm reproduce --ours", "is no command to run again"),
        ("rslwm eval nowhere", r"rslwm eval nowhere ended with 1: .*nowhere/config\.yaml does not exist"),
        ("rslwm eval x --no-such-flag", r"ended with 2: "),
    ],
)
def test_a_command_that_can_not_be_run_says_why(line: str, message: str, tmp_path: Path) -> None:
    before = sys.argv
    with pytest.raises(DataError, match=f"(?s){message}"):
        reproduce.execute(line, tmp_path / "out")
    assert sys.argv is before


def test_a_comparisons_command_is_recorded_without_its_folder() -> None:
    assert reproduce._without_out("rslwm compare demo --out runs/demo --jobs 2") == "rslwm compare demo --jobs 2"
    assert reproduce._without_out("rslwm compare demo --out=runs/demo") == "rslwm compare demo"


def test_without_shipped_results_nothing_is_reproduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "committed", lambda: {})
    (gamma,) = [table for table in tables() if table.name == "gamma"]
    assert {state for line in ledger.lines(gamma) for state in line.states} == {"integrated"}


def test_a_report_beside_the_paper(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run_of_psnr(tmp_path)
    assert main(["report", str(tmp_path), "--against", "paper"]) == 0
    printed = capsys.readouterr().out
    assert "beside the paper (arXiv 2605.06388, DiT-S)" in printed
    assert "+1.00 (n 6, p 0.003)" in " ".join(printed.split())
    assert "pixels of a frame's side: 64 here, 256 there" in printed
    page = (tmp_path / "report/index.html").read_text()
    assert '<section id="paper">' in page
    assert "clips seen in training: 13,500 here" in page
    shutil.rmtree(tmp_path / "report")
    assert main(["report", str(tmp_path)]) == 0
    assert '<section id="paper">' not in (tmp_path / "report/index.html").read_text()
