"""What goes wrong on machines, really caused: one message that says what to do, and a run that goes on afterwards."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import toy_stages as toys
from holders import held_elsewhere
from rslwm.run.lock import locked
from rslwm.run.runner import Runner, StageFailed
from rslwm.run.stage import Stage
from rslwm.serialisation import ConfigError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts, limits and processes of Linux")


def runner(root: Path, **options) -> Runner:
    return Runner(root, 1, console=Console(file=io.StringIO(), width=300), **options)


def fails(root: Path, stage: Stage, message: str, **options) -> None:
    with pytest.raises(StageFailed, match=message) as caught:
        runner(root, **options).run([stage])
    assert len(str(caught.value).splitlines()) == 2  # what and what to do, then what is kept


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    if _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)):
        pytest.skip("mounting isn't permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*words: str) -> int:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode


def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(tmp_path: Path) -> None:
    stage = toys.Count(label="large", total=3, trace=str(tmp_path / "trace"), megabytes=3)
    with mounted(tmp_path / "disk", 2) as disk:
        fails(disk / "out", stage, r"stage count large failed: OSError: .*No space left on device.*Free disk space for")
        assert not _mount("-o", "remount,size=20m", str(disk))
        folders = runner(disk / "out").run([stage]).folders
        assert (folders[stage] / "result.txt").read_text() == "3"
    assert [line.split()[0] for line in (tmp_path / "trace").read_text().splitlines()] == ["from-0", "from-3"]


def test_a_read_only_folder_is_told_before_anything_runs(tmp_path: Path) -> None:
    stage = toys.Write(label="a", text="a", trace=str(tmp_path / "trace"))
    with mounted(tmp_path / "disk", 2) as disk:
        for out in (disk, disk / "made"):
            assert not _mount("-o", "remount,ro", str(disk))
            with pytest.raises(ConfigError, match=r"Read-only file system.* [wW]rite to another"):
                runner(out).run([stage])
            assert not (tmp_path / "trace").exists()
            assert not _mount("-o", "remount,rw", str(disk))
            (disk / "made/stages").mkdir(parents=True, exist_ok=True)
        assert len(runner(disk / "made").run([stage]).folders) == 1


@pytest.mark.parametrize("how", ["python", pytest.param("torch", marks=pytest.mark.slow)])
def test_memory_that_is_not_there_is_told(how: str, tmp_path: Path) -> None:
    stage = toys.Hungry(label="large", how=how, plenty=str(tmp_path / "plenty"))
    fails(tmp_path, stage, r"stage toy large failed: \w*Error.*Run with fewer jobs or a smaller batch")
    (tmp_path / "plenty").touch()
    assert len(runner(tmp_path).run([stage]).folders) == 1


def test_a_stage_that_hangs_ends_at_its_limit_and_its_log_says_where(tmp_path: Path) -> None:
    stage = toys.Hang(label="slow", deaf=False, repaired=str(tmp_path / "repaired"))
    fails(tmp_path, stage, "stage toy slow failed: it took longer than 0.0167 minutes.*stage-minutes", limit=1.0)
    assert "in run\n    time.sleep" in runner(tmp_path).log(stage).read_text()
    (tmp_path / "repaired").touch()
    assert len(runner(tmp_path, limit=60.0).run([stage]).folders) == 1


STUCK = """
import sys
from pathlib import Path
import rslwm.run.perform as perform
import toy_stages as toys

perform.STUCK_SECONDS = 0.5
perform.perform(perform.Job(toys.Hang(label="slow", deaf=True, repaired="no"), Path(sys.argv[1]), limit=0.5))
"""


def test_a_stage_that_cannot_be_interrupted_ends_with_its_process_and_a_trace(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", STUCK, str(tmp_path)], cwd=Path(__file__).parent, timeout=60)
    assert ended.returncode == 1
    (log,) = tmp_path.glob("*.partial/log.txt")
    assert "Timeout" in log.read_text()
    assert "in run" in log.read_text()


@pytest.mark.parametrize("days", [-4000, 4000])
def test_no_clock_says_whether_a_lock_is_held(days: int, tmp_path: Path) -> None:
    """As on a file server whose clock is another one."""

    def skewed() -> None:
        stamp = os.stat(tmp_path).st_mtime + 86400 * days
        os.utime(tmp_path / "lock", (stamp, stamp))

    with held_elsewhere(tmp_path / "lock"):
        skewed()
        with pytest.raises(ConfigError, match="in use by another run"), locked(tmp_path / "lock", 0.2):
            pass
    skewed()
    with locked(tmp_path / "lock", 5):
        pass


def test_a_stage_whose_folder_has_other_times_goes_on(tmp_path: Path) -> None:
    """A clock that jumped between two attempts changes nothing."""
    stage = toys.Fail(label="bad", repaired=str(tmp_path / "repaired"))
    fails(tmp_path, stage, "the toy broke")
    for path in (tmp_path / "stages").rglob("*"):
        os.utime(path, (4e9, 4e9))
    (tmp_path / "repaired").touch()
    folders = runner(tmp_path).run([replace(stage, label="again")]).folders
    assert [(folder / "attempts").read_text() for folder in folders.values()] == ["11"]
