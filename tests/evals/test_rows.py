import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rslwm.evals.rows import DTYPES, Rows
from rslwm.types import DataError

ROW = {
    "latent": "a", "family": "semantic", "size": "S", "seed": 0, "metric": "psnr", "axis": "fidelity",
    "unit": "episode-1", "k": 3, "value": 21.5, "higher_is_better": True,
}  # fmt: skip


def test_rows_survive_the_round_trip_through_parquet(tmp_path):
    table = Rows.broadcast(**{**ROW, "value": [21.5, 3.0]})
    table.save(tmp_path / "rows.parquet")
    loaded = Rows.load(tmp_path / "rows.parquet")
    for name, dtype in DTYPES.items():
        assert loaded[name].dtype == np.asarray([], dtype).dtype or dtype is str
        np.testing.assert_array_equal(loaded[name], table[name])
    assert not list(tmp_path.glob("*.partial"))


def test_an_empty_table_survives_too(tmp_path):
    Rows.concatenate([]).save(tmp_path / "rows.parquet")
    assert len(Rows.load(tmp_path / "rows.parquet")) == 0


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"latent": ["a"]}), path)
    with pytest.raises(DataError, match="no column 'family'"):
        Rows.load(path)


def test_what_is_not_parquet_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_text("latent,value")
    with pytest.raises(DataError, match="not a parquet file"):
        Rows.load(path)
    with pytest.raises(DataError, match="does not exist"):
        Rows.load(tmp_path / "nowhere.parquet")


def test_distinct_values_keep_the_order_of_the_study():
    table = Rows.broadcast(**{**ROW, "latent": ["c", "a", "c", "b"]})
    assert table.distinct("latent") == ("c", "a", "b")


def test_columns_are_broadcast_with_the_last_axis_fastest():
    values = np.arange(6.0).reshape(2, 3)
    rows = Rows.broadcast(**{**ROW, "value": values, "unit": np.array([["x"], ["y"]]), "k": np.arange(1, 4)})
    assert rows["value"].tolist() == [0, 1, 2, 3, 4, 5]
    assert rows["unit"].tolist() == ["x"] * 3 + ["y"] * 3
    assert rows["k"].tolist() == [1, 2, 3] * 2


def test_a_column_that_is_missing_or_unknown_is_named():
    with pytest.raises(TypeError, match="missing or unknown columns: family, famly"):
        Rows.broadcast(**{**{k: v for k, v in ROW.items() if k != "family"}, "famly": "x"})


def test_by_truth_rows_of_one_truth_are_neighbours_and_no_row_is_lost():
    truths = np.arange(6.0).reshape(3, 2, 1)  # by unit and horizon
    latents = np.array(["z", "a"])
    rows = Rows.broadcast(
        latent=latents, family="semantic", size="tiny", seed=0, metric="m", axis="fidelity",
        unit=np.array(["e1", "e0", "e2"]).reshape(3, 1, 1), k=np.array([1, 2]).reshape(2, 1),
        value=np.random.default_rng(0).normal(size=(3, 2, 2)), higher_is_better=True, target=truths,
    )  # fmt: skip
    shuffled = Rows({name: column[::-1] for name, column in rows.columns.items()}).by_truth()
    assert shuffled["target"].reshape(6, 2).std(1).max() == 0
    assert shuffled.distinct("latent") == ("a", "z")  # in the order of their first appearance
    assert sorted(shuffled["value"].tolist()) == sorted(rows["value"].tolist())
