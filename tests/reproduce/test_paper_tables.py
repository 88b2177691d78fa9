"""The paper's numbers: what their own arithmetic says of the transcription, and that all of them are known."""

import pytest

from rslwm.evals.base import METRICS
from rslwm.reproduce.paper import NO_INTERVAL, Cell, Table, printed, tables
from rslwm.reproduce.quantities import QUANTITIES, measuring
from rslwm.reproduce.spaces import SPACES, stands_for
from rslwm.study.config import DEMO_LATENTS, PRESETS
from rslwm.study.entry import Entry

CELLS = [(table, row, cell) for table in tables() for row in table.rows for cell in row.cells]


def named(name: str) -> Table:
    return next(table for table in tables() if table.name == name)


def value(space: str, size: str, quantity: str) -> float:
    found = printed(space, size, quantity)
    assert found is not None
    return found[1].value


def test_every_table_that_prints_results_is_there() -> None:
    names = [table.name for table in tables()]
    assert names == [*(str(n) for n in range(1, 17) if n != 5), "figures 2, 10", "judges", "gamma"]  # 5: sizes
    assert (len(CELLS), len({cell.quantity for _, _, cell in CELLS})) == (1559, 62)


def test_every_column_and_every_space_is_known() -> None:
    assert {cell.quantity for _, _, cell in CELLS} == {*QUANTITIES}
    assert {row.space for _, row, _ in CELLS} == {*SPACES, ""}


@pytest.mark.parametrize(("quantity", "trials"), [("consensus_sr", 160), ("id_sr", 80), ("ood_distractor_sr", 80)])
def test_success_rates_are_counts_with_binomial_standard_errors(quantity: str, trials: int) -> None:
    cells = [cell for table, _, cell in CELLS if table.name == "10" and cell.quantity == quantity]
    assert len(cells) == 24
    for cell in cells:
        assert cell.kind == f"binomial standard error, n = {trials}"
        assert cell.value * trials == pytest.approx(round(cell.value * trials), abs=trials * 6e-4)
        assert cell.error == pytest.approx((cell.value * (1 - cell.value) / trials) ** 0.5, abs=6e-4)


def test_table_4_adds_up() -> None:
    for row in named("4").rows:
        of = {cell.quantity: cell.value for cell in row.cells}
        parts = sum(number for name, number in of.items() if name.startswith("gflop_") and name != "gflop_total")
        assert of["gflop_total"] == pytest.approx(parts, abs=0.11)


def test_what_is_lost_by_generating_is_the_difference_of_the_accuracies() -> None:
    drops = [(row, cell) for _, row, cell in CELLS if cell.quantity == "success_accuracy_drop"]
    assert len(drops) == 14
    for row, cell in drops:
        lost = value(row.space, "", "success_accuracy") - value(row.space, row.size, "success_accuracy_generated")
        assert cell.value == pytest.approx(lost, abs=1.1e-3)


@pytest.mark.parametrize("quantity", ["ssim", "lpips", "fid", "fvd", "tlpips"])
def test_table_3_is_table_8(quantity: str) -> None:
    rows = {(row.space, row.size): cell for t, row, cell in CELLS if t.name == "8" and cell.quantity == quantity}
    shorter = [(row, cell) for t, row, cell in CELLS if t.name == "3" and cell.quantity == quantity]
    assert len(shorter) == 17
    for row, cell in shorter:
        assert rows[row.space, row.size].value == pytest.approx(cell.value, abs=0.051 if quantity == "fvd" else 6e-3)


def test_intervals_say_what_they_are() -> None:
    with_interval = [cell for _, _, cell in CELLS if cell.error is not None or cell.low is not None]
    assert all(cell.kind != NO_INTERVAL for cell in with_interval)
    without = [cell for _, _, cell in CELLS if cell.error is None and cell.low is None]
    assert {cell.kind for cell in without} == {NO_INTERVAL}


def test_a_standard_error_spans_two_of_it_to_either_side() -> None:
    assert Cell("consensus_sr", 0.5, "", error=0.1).bounds == pytest.approx((0.304, 0.696))
    assert Cell("consensus_sr", 0.5, "", low=0.4, high=0.7).bounds == (0.4, 0.7)
    assert Cell("psnr", 17.0).bounds == (17.0, 17.0)


def test_whatever_is_said_to_be_measured_has_a_metric_of_that_name() -> None:
    readings = {name: q.reading for name, q in QUANTITIES.items() if q.reading}
    assert len(readings) == 23
    assert {name for name, reading in readings.items() if not measuring(reading)} == set()
    assert {measuring(reading) for reading in readings.values()} <= {*METRICS}


def test_a_quantity_says_how_it_is_measured_or_what_is_lacking() -> None:
    for name, q in QUANTITIES.items():
        assert bool(q.measured) + q.computed + bool(q.kept) + bool(q.lacks) == 1, name
        assert q.differs or not q.nearest, name


def test_the_spaces_of_both_presets_stand_for_nine_of_the_papers() -> None:
    published = [stands_for(Entry.parse(name)) for name in PRESETS["bridge"].latents]
    assert published == [row.space for row in named("1").rows]
    small = [stands_for(Entry.parse(name)) for name in DEMO_LATENTS]
    assert small == ["VAE", "VA-VAE", "Cosmos", "V-JEPA2.1_d96", "Web-DINO_d96", "SigLIP2_d96"]


def test_a_shipped_space_stands_for_what_it_is() -> None:
    assert stands_for(Entry("small-dino+16", "small-dino+16@tabletop")) == "Web-DINO_d96"


@pytest.mark.parametrize(
    ("text", "space"),
    [("sd3-vae[shift=no,posterior=sample]", "VAE"), ("mine=small-dino+16@2", "Web-DINO_d96"), ("small-dino+8", ""),
     ("effnet-lite0", "")],
)  # fmt: skip
def test_a_space_stands_for_the_same_under_another_name_and_with_options(text: str, space: str) -> None:
    assert stands_for(Entry.parse(text)) == space
