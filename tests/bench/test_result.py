import io
import json

import pytest
from rich.console import Console

from rslwm.bench.result import Comparison, Measurement, load, publish

OURS = Measurement("ours", [1.0, 2.0, 1.0], 8, "frames", flops=3e9, peak_bytes=5 * 2**20)
BASELINE = Measurement("window recomputed", [5.0, 6.0, 7.0], 4, "frames", flops=30e9)
MACHINE = {"device": "cpu", "cpu": "an abacus", "threads": 2, "torch": "2", "load": 0.1}


def comparison(title: str = "8 frames", **changes: object) -> Comparison:
    fields = {"bound": 12.0, "peak": 12e9, "quality": {"latent error": {"10 steps": 0.25, "clips": 4}}, **changes}
    return Comparison(title, {"size": "S"}, OURS, BASELINE, **fields)


def test_ratio_is_the_median_of_the_pairs_in_items_a_second():
    assert comparison().ratios == [10.0, 6.0, 14.0]
    assert comparison().ratio == 10.0


def test_rates_are_those_of_the_median_run():
    assert (OURS.rate, BASELINE.rate) == (8.0, pytest.approx(4 / 6))
    assert comparison().share(OURS) == pytest.approx(3 / 12)
    assert comparison().share(BASELINE) == pytest.approx(5 / 12)


def test_share_is_unknown_without_operations_or_peak():
    assert comparison(peak=None).share(OURS) is None
    assert comparison().share(Measurement("copy", [1.0], 1, "frames")) is None


def test_runs_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="8 frames: 1 runs against 3"):
        Comparison("8 frames", {}, Measurement("ours", [1.0], 8, "frames"), BASELINE)


def test_files_hold_everything(tmp_path):
    made = [comparison(), comparison("40 frames", bound=None, quality=None)]
    publish("rollout", made, MACHINE, Console(file=io.StringIO()), tmp_path)
    assert load(tmp_path / "rollout.json") == made
    record = json.loads((tmp_path / "rollout.json").read_text())
    assert record["machine"] == MACHINE
    assert record["comparisons"][0]["summary"]["ratio_range"] == [6.0, 14.0]


def test_table_shows_rates_ratio_bound_memory_and_quality():
    screen = io.StringIO()
    publish("rollout", [comparison()], MACHINE, Console(file=screen, width=140))
    printed = screen.getvalue()
    shown = ("8 frames", "10.00x", "6.00 to 14.00", "12.00x", "25%", "5 MB", "0.6667 frames", "an abacus")
    assert all(text in printed for text in shown)
    assert "latent error: 10 steps 0.25, clips 4" in printed
