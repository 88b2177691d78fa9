"""Files are known by what they hold: not by place, not by time, and nothing is left beside them."""

import os
import shutil
from pathlib import Path

import pytest

from rslwm import caches
from rslwm.data import fingerprint
from rslwm.data.fingerprint import changed, files_key, recorded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data/meta").mkdir(parents=True)
    (tmp_path / "data/meta/info.json").write_text("{}")
    (tmp_path / "data/one.parquet").write_bytes(b"one")
    return tmp_path / "data"


def test_a_moved_copied_or_touched_folder_keeps_its_key(folder: Path, tmp_path: Path) -> None:
    before = files_key(folder)
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    assert files_key(folder) == before
    assert files_key(shutil.copytree(folder, tmp_path / "copied")) == before
    assert files_key(folder.rename(tmp_path / "moved")) == before


def test_a_byte_that_changes_moves_the_key_even_at_once_and_with_its_old_times(folder: Path) -> None:
    before, path = files_key(folder), folder / "one.parquet"
    times = path.stat()
    path.write_bytes(b"two")
    assert files_key(folder) != before
    path.write_bytes(b"eno")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert files_key(folder) != before


def test_a_file_more_and_a_file_under_another_name_move_the_key(folder: Path) -> None:
    before = files_key(folder)
    (folder / "one.parquet").rename(folder / "two.parquet")
    renamed = files_key(folder)
    (folder / "three.parquet").touch()
    assert len({before, renamed, files_key(folder)}) == 3


def test_what_tools_leave_in_a_folder_does_not_count(folder: Path) -> None:
    before = files_key(folder)
    (folder / ".cache/huggingface").mkdir(parents=True)
    (folder / ".cache/huggingface/one.lock").touch()
    (folder / "README.md").write_text("Mine.")
    (folder / "meta/fingerprint.json").write_text("{}")
    assert files_key(folder) == before


def test_reading_leaves_nothing_in_the_folder(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    files_key(folder)
    fingerprint.fingerprint(folder)
    assert sorted(folder.rglob("*")) == before


def test_bytes_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)
    before = files_key(folder)
    monkeypatch.setattr(fingerprint, "sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert files_key(folder) == before


def test_a_file_that_was_written_just_now_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writes within a tick of the clock have the same times."""
    files_key(folder)
    read: list[Path] = []
    monkeypatch.setattr(fingerprint, "sha256", lambda path: read.append(path) or "sum")
    files_key(folder)
    assert sorted(path.name for path in read) == ["info.json", "one.parquet"]


def test_a_cache_that_cannot_be_written_or_read_costs_time_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_key(folder)
    (tmp_path / "file").touch()
    monkeypatch.setenv("RSLWM_CACHE", str(tmp_path / "file"))
    assert files_key(folder) == before
    monkeypatch.setenv("RSLWM_CACHE", str(tmp_path / "cache"))
    caches.note("noted.json", {"a": 1})
    assert caches.recall("noted.json") == {"a": 1}
    (tmp_path / "cache/noted.json").write_text("{")
    assert caches.recall("noted.json") == {}


def test_a_single_file_is_known_by_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.hdf5", tmp_path / "elsewhere.hdf5"
    one.write_bytes(b"a")
    two.write_bytes(b"a")
    assert files_key(one) == files_key(two)
    two.write_bytes(b"b")
    assert files_key(one) != files_key(two)


def test_long_reading_is_announced(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(fingerprint, "LONG", 4)
    files_key(folder)
    assert f"reading 5 bytes of {folder} once" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[1]", '{"a": 1}', '{"a": {"sha1": "x"}}', "{half", "\xff"])
def test_sums_of_another_writer_say_nothing(folder: Path, content: str) -> None:
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta/fingerprint.json").write_bytes(content.encode("latin-1"))
    assert recorded(folder) == {}
    assert changed(folder) == []
