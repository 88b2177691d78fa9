import sys
from pathlib import Path

import pytest

from rslwm.data.config import DataConfig
from rslwm.data.sources.opening import open_source
from rslwm.types import DataError


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)  # import h5py fails
    (tmp_path / "lift.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(DataError, match=r"lift\.hdf5 is read with h5py, .*pip install 'rslwm\[hdf5\]'"):
        open_source(DataConfig(f"hdf5:{tmp_path / 'lift.hdf5'}")).open(tmp_path)
