import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rslwm.evals.rows import DTYPES, Rows
from rslwm.types import DataError, MetricRow

ROW = MetricRow("a", "semantic", "S", 0, "psnr", "fidelity", "test", "episode-1", 3, 21.5, True)


def test_rows_survive_the_round_trip_through_parquet(tmp_path):
    table = Rows.of([ROW, ROW])
    table.save(tmp_path / "rows.parquet")
    loaded = Rows.load(tmp_path / "rows.parquet")
    for name, dtype in DTYPES.items():
        assert loaded[name].dtype == np.asarray([], dtype).dtype or dtype is str
        np.testing.assert_array_equal(loaded[name], table[name])
    assert not list(tmp_path.glob("*.partial"))


def test_an_empty_table_survives_too(tmp_path):
    Rows.of([]).save(tmp_path / "rows.parquet")
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
    table = Rows.of([MetricRow(**{**ROW.__dict__, "latent": name}) for name in ("c", "a", "c", "b")])
    assert table.distinct("latent") == ("c", "a", "b")
