"""What follows from sizes, computed again, is what the package ships and what the paper prints."""

from math import sqrt

import pytest

from rslwm.latents.published.base import MissingLibrary
from rslwm.reproduce import computed
from rslwm.reproduce.computed import recompute
from rslwm.reproduce.paper import Cell
from rslwm.reproduce.results import Result, committed, tolerance

CHANNELS = {
    "Cosmos": 16, "VA-VAE": 32, "Web-DINO_d64": 64, "V-JEPA2.1_d96": 96, "Web-DINO_d256": 256, "Web-DINO": 1024,
    "SigLIP2": 1152,
}  # fmt: skip


def test_time_shifts_are_those_of_the_papers_formula() -> None:
    found, failed = recompute("gamma")
    assert not failed
    values = {result.space: result.value for result in found}
    assert len(values) == 12
    assert values["VAE"] == 1
    for space, channels in CHANNELS.items():
        assert values[space] == pytest.approx(sqrt(256 * channels / 4096), rel=1e-6)
    assert all(committed()[result.key].value == pytest.approx(result.value) for result in found)


@pytest.mark.slow
def test_table_4_comes_out_as_shipped() -> None:
    found, failed = recompute("4")
    assert not failed
    assert len(found) == 69
    assert {result.key: result.value for result in found} == pytest.approx(
        {key: result.value for key, result in committed().items() if key[-1] != "gamma"}, rel=1e-4
    )


def test_a_space_whose_library_is_missing_is_named_and_the_others_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = computed._variant

    def without(space: str, size: str) -> object:
        if space == "SigLIP2":
            raise MissingLibrary("siglip2 needs the package transformers")
        return real(space, size)

    monkeypatch.setattr(computed, "_variant", without)
    found, failed = recompute("gamma")
    assert failed == {"SigLIP2": "siglip2 needs the package transformers"}
    assert len(found) == 11


@pytest.mark.parametrize(("ours", "agrees"), [(910.05, True), (910.17, False)])
def test_parameters_agree_to_their_last_digit(ours: float, agrees: bool) -> None:
    cell = Cell("parameters_transformer", 910.1)
    assert tolerance(cell) == pytest.approx(0.06)
    assert Result("VAE", "parameters_transformer", ours, "", "L").agrees(cell) == agrees


@pytest.mark.parametrize(("low", "high", "agrees"), [(0.22, 0.40, True), (0.01, 0.22, False), (None, None, False)])
def test_what_is_measured_agrees_where_the_intervals_overlap(low: float, high: float, agrees: bool) -> None:
    cell = Cell("consensus_sr", 0.3, "", error=0.036)  # from .229 to .371
    assert Result("VAE", "consensus_sr", 0.3, "", "S", low=low, high=high).agrees(cell) == agrees
