"""`rslwm report` and the folder that it is given."""

from pathlib import Path

import pytest

from holders import held_elsewhere
from rslwm.cli import report
from rslwm.cli.report import Report
from rslwm.serialisation import ConfigError
from rslwm.types import DataError


@pytest.mark.parametrize("size", ["", "S"])
def test_no_report_is_written_while_a_run_uses_its_folder(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LOCK_SECONDS", 0)
    (tmp_path / "stages").mkdir()
    (tmp_path / "S").mkdir()
    with held_elsewhere(tmp_path / ".lock"), pytest.raises(ConfigError, match="in use by another run"):
        Report(tmp_path / size).run()
    with pytest.raises(DataError, match=r"rows\.parquet does not exist"):
        Report(tmp_path / size).run()


def test_a_report_of_no_folder_makes_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        Report(tmp_path / "none").run()
    assert not (tmp_path / "none").exists()
