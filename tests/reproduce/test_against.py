"""A run beside the paper: which numbers stand beside which, how far the orders agree, and what differs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planted_run import PSNR, planted, run_of_psnr, write_run
from rslwm.reproduce.against import Beside, Comparison
from rslwm.reproduce.protocol import ALWAYS, differences
from rslwm.reproduce.quantities import QUANTITIES, Reading
from rslwm.reproduce.readings import read
from rslwm.study.config import PRESETS
from rslwm.verdict.decide import Verdict


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    return run_of_psnr(tmp_path_factory.mktemp("runs") / "psnr")


def of(beside: Beside, name: str) -> Comparison:
    return next(one for one in beside.comparisons if one.quantity is QUANTITIES[name])


def test_ours_stands_beside_what_the_paper_prints_of_its_counterpart(verdict: Verdict) -> None:
    psnr = of(Beside.of(verdict, PRESETS["demo"]), "psnr")
    assert {pair.latent: (pair.space, pair.cell.value) for pair in psnr.pairs} == {
        "small-vae": ("VAE", 17.43),
        "small-vavae": ("VA-VAE", 16.98),
        "small-cosmos": ("Cosmos", 16.97),
        "small-vjepa+16": ("V-JEPA2.1_d96", 18.2),
        "small-dino+16": ("Web-DINO_d96", 17.99),
        "small-siglip+16": ("SigLIP2_d96", 18.06),
    }
    assert {pair.latent: pair.ours.value for pair in psnr.pairs} == pytest.approx(PSNR)
    assert psnr.tables == "8"


def test_the_same_order_correlates_fully_with_the_p_of_one_order_in_all(verdict: Verdict) -> None:
    """720 orders of six spaces; the reversed one agrees as strongly, the other way round."""
    found = of(Beside.of(verdict, PRESETS["demo"]), "psnr").agreement
    assert found is not None
    assert found.rho == pytest.approx(1.0)
    assert found.p == pytest.approx(2 / 720)


def test_a_gap_is_how_far_a_space_is_from_its_own_ceiling(verdict: Verdict) -> None:
    gap = of(Beside.of(verdict, PRESETS["demo"]), "psnr_gap")
    assert {pair.latent: pair.ours.value for pair in gap.pairs} == pytest.approx({k: 30 - v for k, v in PSNR.items()})


def test_another_size_has_other_printed_numbers(verdict: Verdict) -> None:
    large = of(Beside.of(verdict, PRESETS["demo"], "L"), "psnr")
    assert {pair.space: pair.cell.value for pair in large.pairs}["VAE"] == 18.44
    assert "VA-VAE" not in {pair.space for pair in large.pairs}  # which exists at S only


def test_fewer_than_four_spaces_have_no_rank_correlation(tmp_path: Path) -> None:
    few = {name: PSNR[name] for name in list(PSNR)[:3]}
    write_run(tmp_path, planted("psnr", few), latents=tuple(few))
    assert of(Beside.load(tmp_path), "psnr").agreement is None


def test_horizons_are_read_one_by_one(tmp_path: Path) -> None:
    near, far = (planted("cem_error", {"small-vae": v, "small-dino+16": 2 * v}, (k,)) for k, v in ((1, 0.2), (4, 0.5)))
    found = write_run(tmp_path, near, far, latents=("small-vae", "small-dino+16"))
    assert read(found, Reading("cem_error", 4))["small-dino+16"].value == pytest.approx(1.0)
    estimate = read(found, Reading("cem_error", 1))["small-vae"]
    assert estimate.value == pytest.approx(0.2)
    assert estimate.low < 0.2 < estimate.high
    assert read(found, Reading("cem_error", 2)) == {}


def test_a_correlation_stands_beside_the_encoders_which_have_no_size(tmp_path: Path) -> None:
    write_run(tmp_path, planted("idm_r", {"small-vae": 1.0, "small-vavae": -1.0}, (1, 4)),
              latents=("small-vae", "small-vavae"))  # fmt: skip
    beside = Beside.load(tmp_path)
    printed = {pair.latent: (pair.ours.value, pair.cell.value) for pair in of(beside, "idm_r_k4").pairs}
    assert printed["small-vae"] == pytest.approx((1.0, 0.478))
    assert printed["small-vavae"] == pytest.approx((-1.0, 0.744))
    assert not any(one.quantity is QUANTITIES["idm_r_generated_k1"] for one in beside.comparisons)


def test_another_definition_is_called_so(tmp_path: Path) -> None:
    write_run(tmp_path, planted("cem_error", {"small-vae": 0.2}, (1,)), latents=("small-vae",))
    (told,) = Beside.load(tmp_path).definitions
    assert told.startswith("CEM, error of the action, k = 1: nearest; our search begins at standing still, theirs at")


def test_probes_of_a_compressed_space_stand_beside_the_native_ones(tmp_path: Path) -> None:
    write_run(tmp_path, planted("idm_r", {"small-dino+16": 1.0}, (1,)), latents=("small-dino+16",))
    (pair,) = of(Beside.load(tmp_path), "idm_r_k1").pairs
    assert (pair.space, pair.printed) == ("Web-DINO", "0.82 (native)")


def test_what_several_quantities_share_is_told_once(verdict: Verdict) -> None:
    told = Beside.of(verdict, PRESETS["demo"]).definitions
    length = "the paper doesn't say how long these rollouts are"
    assert told == [f"PSNR, dB; PSNR below encoding and decoding: {length}"]


def test_metrics_that_would_give_more_are_named(verdict: Verdict) -> None:
    absent = Beside.of(verdict, PRESETS["demo"]).absent
    assert any(text.startswith("lpips for LPIPS, AlexNet") for text in absent)
    assert not any(text.startswith("visual for PSNR") for text in absent)


def test_spaces_that_stand_for_nothing_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, planted("psnr", {"small-vae": 17.0, "raw-pixels": 12.0}), latents=("small-vae", "raw-pixels"))
    assert Beside.load(tmp_path).spaces == {"small-vae": "VAE"}


def test_a_single_size_of_a_run_chooses_the_papers(tmp_path: Path) -> None:
    write_run(tmp_path / "L", planted("psnr", {"small-vae": 17.0}), latents=("small-vae",))
    config = tmp_path / "L/config.yaml"
    config.write_text(config.read_text().replace("sizes: []", "sizes: [S, L]"))
    assert Beside.load(tmp_path / "L").size == "L"


def test_the_demos_differences_are_named() -> None:
    told = differences(PRESETS["demo"], ["small-vae"])
    assert any(text.startswith("data: sim:tabletop, 320 episodes here, BridgeData V2") for text in told)
    assert "encoders: small-vae stand for the ideas of the paper's encoders, and are none of them" in told
    assert "pixels of a frame's side: 64 here, 256 there" in told
    assert any(text.startswith("transformer: ") and text.endswith("DiT-S there") for text in told)


def test_the_papers_preset_differs_in_what_no_configuration_says() -> None:
    bridge = PRESETS["bridge"]
    config = replace(bridge, data=replace(bridge.data, uri="rlds:bridge_dataset/1.0.0"))
    assert differences(config, ["sd3-vae"]) == [*ALWAYS]


def test_a_pair_is_found_by_the_name_of_our_space(verdict: Verdict) -> None:
    psnr = of(Beside.of(verdict, PRESETS["demo"]), "psnr")
    pair = psnr["small-dino+16"]
    assert pair is not None
    assert np.isfinite([pair.ours.low, pair.ours.high]).all()
    assert psnr["small-dino"] is None
