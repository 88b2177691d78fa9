"""States follow from results and from what is registered; commands are command lines of ours."""

import shlex
from dataclasses import replace

import pytest

from rslwm.cli.checkpoint import Evaluate
from rslwm.cli.compare import Compare, Train
from rslwm.cli.flags import parse
from rslwm.evals.base import METRICS
from rslwm.reproduce.ledger import Line, lines
from rslwm.reproduce.machine import BRIDGE, Machine
from rslwm.reproduce.paper import Table, tables
from rslwm.reproduce.quantities import QUANTITIES
from rslwm.reproduce.results import Result
from rslwm.trust import FLAG


def named(name: str) -> Table:
    return next(table for table in tables() if table.name == name)


def line(table: str, space: str, size: str, *results: Result) -> Line:
    found = lines(named(table), {result.key: result for result in results} or None)
    return next(line for line in found if (line.row.space, line.row.size) == (space, size))


def test_all_of_table_4_and_of_the_time_shifts_is_reproduced_by_what_is_shipped() -> None:
    for name in ("4", "gamma"):
        assert {state for found in lines(named(name)) for state in found.states} == {"reproduced"}


def test_nothing_else_is_said_to_be_reproduced() -> None:
    others = [table for table in tables() if table.name not in ("4", "gamma")]
    assert not any("reproduced" in found.states for table in others for found in lines(table))


def test_what_has_a_metric_is_integrated_and_what_has_none_planned() -> None:
    found = line("8", "V-JEPA2.1", "S")
    assert found.states == {"integrated": 6, "planned": 7}
    by = {standing.cell.quantity: standing for standing in found.standings}
    assert (by["psnr"].state, by["psnr"].metric) == ("integrated", "visual")
    assert (by["fid"].state, by["fid"].why) == ("planned", "InceptionV3's features")


def test_a_result_whose_interval_holds_the_printed_number_reproduces_it() -> None:
    near = Result("VAE", "psnr", 17.5, "", "S", low=17.3, high=17.7)
    assert line("8", "VAE", "S", near).states["reproduced"] == 1
    far = replace(near, value=19.0, low=18.5, high=19.5)
    states = {standing.cell.quantity: standing for standing in line("8", "VAE", "S", far).standings}
    assert states["psnr"].state == "integrated"
    assert states["psnr"].result == far


def test_a_computed_result_out_of_tolerance_reproduces_nothing() -> None:
    off = Result("VAE", "parameters_transformer", 912.0, "", "L")
    standing = next(s for s in line("4", "VAE", "L", off).standings if s.cell.quantity == "parameters_transformer")
    assert standing.state == "integrated"


def test_a_metric_that_is_gone_leaves_its_numbers_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS.get("visual"), "infos", ())
    standing = next(s for s in line("8", "VAE", "S").standings if s.cell.quantity == "psnr")
    assert (standing.state, standing.why) == ("planned", "a metric psnr, which is not registered")


def test_a_row_without_anything_to_run_has_no_command() -> None:
    assert line("1", "VAE", "S").command == ""


@pytest.mark.parametrize(
    ("table", "space", "size", "words"),
    [
        ("8", "V-JEPA2.1_d96", "L", "--latents vjepa2.1+96 --sizes L --metrics lpips,visual --out runs/bridge"),
        ("3", "Cosmos", "S", f"--latents cosmos-ci16 --sizes S --metrics lpips,visual {FLAG} --out runs/bridge"),
        ("4", "VAE", "L", "rslwm reproduce --run --table 4"),
    ],
)
def test_a_row_says_its_command(table: str, space: str, size: str, words: str) -> None:
    assert line(table, space, size).command.endswith(words)


def test_the_success_probe_trains_a_world_model_and_measures_it_on_labelled_episodes() -> None:
    first, second = line("14", "SigLIP2", "S").command.split(" && ")
    assert first == f"rslwm train bridge --data {BRIDGE} --latents siglip2 --sizes S --out runs/bridge"
    assert second.startswith("rslwm eval runs/bridge/checkpoints/siglip2-S --data rlds:soar_dataset/1.0.0 ")


@pytest.mark.parametrize("table", ["2", "6", "8", "14", "15"])
def test_commands_are_command_lines_that_parse(table: str) -> None:
    kinds = {"compare": Compare, "train": Train, "eval": Evaluate}
    commands = lines(named(table))[-1].command.split(" && ")
    for command in commands:
        program, name, *words = [word for word in shlex.split(command) if word != FLAG]
        parsed = parse(kinds[name], f"{program} {name}", words)
        assert parsed.out is not None


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Machine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return Machine(weights=str(tmp_path))


def test_a_row_names_all_that_this_machine_lacks(nothing_here: Machine) -> None:
    assert line("8", "Web-DINO_d96", "S").missing(nothing_here) == [
        "BridgeData V2 (rlds:bridge_dataset/1.0.0)",
        "weights of web-dino (1,215 MB)",
        "alexnet-owt-7be5be79.pth for lpips-alex (244 MB)",
        "vgg16-397923af.pth for lpips-vgg (553 MB)",
        "a GPU",
    ]


def test_an_autoencoder_needs_no_network_to_train_its_decoder_with(nothing_here: Machine) -> None:
    assert not any("vgg16" in what for what in line("8", "VAE", "S").missing(nothing_here))


def test_the_success_probe_needs_labelled_episodes_too(nothing_here: Machine) -> None:
    assert "SOAR (rlds:soar_dataset/1.0.0)" in line("14", "VAE", "S").missing(nothing_here)


@pytest.mark.parametrize(("table", "space", "size"), [("4", "VAE", "L"), ("1", "VAE", "S")])
def test_what_is_computed_or_planned_lacks_nothing_here(
    table: str, space: str, size: str, nothing_here: Machine
) -> None:
    assert line(table, space, size).missing(nothing_here) == []


def test_every_reading_of_a_gap_is_of_a_metric_with_a_ceiling() -> None:
    gaps = [q.measured for q in QUANTITIES.values() if q.measured and q.measured.gap]
    assert {gap.metric for gap in gaps} == {"psnr", "ssim", "lpips"}
