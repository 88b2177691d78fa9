import json

import pytest

from rslwm.bench.benchmark import publish, table
from rslwm.bench.measure import Measurement

RUNS = Measurement("step", [1.0, 2.0, 1.0], 8, "frames", flops=3e9, peak=12e9, peak_bytes=5 * 2**20)
MACHINE = {"device": "cpu", "cpu": "an abacus", "threads": 2, "dtype": "float32", "torch": "2", "load": 0.1}


def test_rates_are_those_of_the_median_run():
    assert RUNS.rate == 8.0
    assert RUNS.rates == [8.0, 4.0, 8.0]
    assert RUNS.share_of_peak == pytest.approx(3 / 12)


def test_share_is_unknown_without_operations_or_peak():
    assert Measurement("copy", [1.0], 1, "frames", peak=12e9).share_of_peak is None
    assert Measurement("copy", [1.0], 1, "frames", flops=1e9).share_of_peak is None


def test_table_and_file_hold_everything(tmp_path, capsys):
    publish("rollout", table([RUNS]), {"machine": MACHINE, "measurements": [RUNS.to_dict()]}, tmp_path)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("8 frames", "4 to 8", "25%", "5 MB", "125", "an abacus"))
    record = json.loads((tmp_path / "rollout.json").read_text())
    assert record["machine"] == MACHINE
    (found,) = record["measurements"]
    assert found["seconds"] == RUNS.seconds
    assert found["rate"] == 8
