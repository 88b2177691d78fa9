"""A finished run is put on record, and its command gives the same numbers again."""

import json
import shutil
from pathlib import Path

import pytest

from rslwm.cli.main import FAILED, main
from rslwm.reproduce.ours import LEDGER, read
from rslwm.serialisation import content_hash
from terminal import Run, rslwm

COMMAND = "rslwm compare smoke"


@pytest.fixture(scope="module")
def kept(smoke: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the smoke run is kept as what its command, run again, goes on from."""
    folder = tmp_path_factory.mktemp("kept")
    with smoke.undisturbed:
        shutil.copytree(smoke.folder, folder / content_hash(COMMAND))
    return folder


@pytest.fixture(scope="module")
def ledger(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "smoke" / LEDGER
    finished = str(kept / content_hash(COMMAND))
    rslwm("reproduce", "--record", str(path), "--finished", finished, "--only", "psnr,idm_r", out=kept)
    return path


def test_a_finished_run_is_recorded_with_its_command_and_time(ledger: Path) -> None:
    entries = read(ledger)
    assert {(entry.command, entry.metric) for entry in entries} == {(COMMAND, "psnr"), (COMMAND, "idm_r")}
    assert len(entries) == 12
    assert all(entry.seconds > 1 for entry in entries)


def test_its_command_gives_the_same_numbers(kept: Path, ledger: Path) -> None:
    again = rslwm("reproduce", "--ours", "--results", str(ledger.parent), "--minutes", "60", out=kept)
    assert "12 of 12 numbers within their tolerance" in again.output
    assert again.made == []


def test_a_wrong_number_on_record_ends_with_exit_code_1(
    kept: Path, ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = json.loads(ledger.read_text())
    content["entries"][3]["value"] += 1.0
    (tmp_path / LEDGER).write_text(json.dumps(content))
    words = ["reproduce", "--ours", "--results", str(tmp_path), "--minutes", "60", "--out", str(kept)]
    assert main(words) == FAILED
    assert "11 of 12 numbers within their tolerance" in capsys.readouterr().out


def test_a_comparison_stands_beside_the_paper(kept: Path) -> None:
    again = rslwm("compare", "smoke", "--against", "paper", out=kept / content_hash(COMMAND))
    assert again.made == []
    assert "beside the paper (arXiv 2605.06388, DiT-S)" in again.output
    assert all(space in again.output for space in ("V-JEPA2.1_d96", "VA-VAE", "SigLIP2_d96"))
    assert "encoders: small-vae, small-vavae" in again.output
    assert '<section id="paper">' in (kept / content_hash(COMMAND) / "report/index.html").read_text()


def test_an_evaluation_keeps_its_verdict_to_be_recorded(kept: Path, tmp_path: Path) -> None:
    checkpoint = kept / content_hash(COMMAND) / "checkpoints/small-vae"
    path, command = tmp_path / LEDGER, f"rslwm eval {checkpoint} --evaluation.rollouts.clips 4 --metrics visual"
    rslwm("reproduce", "--record", str(path), "--command", command, out=tmp_path / "kept")
    assert {(entry.metric, entry.latent) for entry in read(path)} == {("psnr", "small-vae"), ("ssim", "small-vae")}
    checked = rslwm("reproduce", "--ours", "--results", str(tmp_path), out=tmp_path / "kept")
    assert "2 of 2 numbers within their tolerance" in checked.output
