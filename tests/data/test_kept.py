"""A recording that is stopped goes on after its last episode, and ends with the bytes of one that wasn't."""

import errno
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recordings import SPEC, episode
from rslwm.data import lerobot
from rslwm.data.kept import FOLDER
from rslwm.data.lerobot import resume_lerobot, write_lerobot
from rslwm.types import DataError, Episode

CAMERAS = ("front", "side/wrist")
TOTAL = 7
SIZE = 64  # of smaller pictures x264's bytes are not always the same
VIDEO_MB = 0.01


@pytest.fixture(autouse=True)
def small_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is full after two episodes or three."""
    monkeypatch.setattr(lerobot, "VIDEO_MB", VIDEO_MB)


class Asked:
    """Gives the episodes from a number on, and raises after so many."""

    def __init__(self, count: int, error: BaseException) -> None:
        self.count, self.error, self.first = count, error, -1

    def __call__(self, first: int) -> Iterator[Episode]:
        self.first = first
        for number in range(first, TOTAL):
            if number == first + self.count:
                raise self.error
            yield episode(number, cameras=CAMERAS, size=SIZE)


def record(root: Path, count: int = TOTAL, error: BaseException | None = None, key: str = "key") -> int:
    """Records until the error; returns the number of the first episode that was asked for."""
    asked = Asked(count, error or KeyboardInterrupt())
    try:
        resume_lerobot(asked, key, root, SPEC, TOTAL)
    except type(asked.error):
        assert count < TOTAL
    return asked.first


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lerobot, "VIDEO_MB", VIDEO_MB)
        root = tmp_path_factory.mktemp("whole") / "set"
        write_lerobot([episode(i, cameras=CAMERAS, size=SIZE) for i in range(TOTAL)], root, SPEC, TOTAL)
    assert len([*root.rglob("*.mp4")]) > len(CAMERAS)
    return content(root)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_stopped_again_and_again_it_ends_with_the_same_bytes(
    count: int, whole: dict[str, bytes], tmp_path: Path
) -> None:
    firsts = [record(tmp_path / "set", count)]
    while not (tmp_path / "set").exists():
        firsts.append(record(tmp_path / "set", count if firsts[-1] + count < TOTAL else TOTAL))
    assert firsts == [*range(0, firsts[-1] + 1, count)]
    assert content(tmp_path / "set") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


KILLED = """
import os, signal, sys
from pathlib import Path
from recordings import SPEC, episode
from rslwm.data import lerobot

lerobot.VIDEO_MB = 0.01

def episodes(first):
    for number in range(first, 7):
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield episode(number, cameras=("front", "side/wrist"), size=64)

lerobot.resume_lerobot(episodes, "key", Path(sys.argv[1]), SPEC, 7)
"""


def test_killed_it_goes_on_to_the_same_bytes(whole: dict[str, bytes], tmp_path: Path) -> None:
    line = [sys.executable, "-c", KILLED, str(tmp_path / "set")]
    assert subprocess.run(line, cwd=Path(__file__).parent, check=False).returncode == -signal.SIGKILL
    assert record(tmp_path / "set") == 5
    assert content(tmp_path / "set") == whole


def test_frames_are_kept_until_their_video_is_whole(tmp_path: Path) -> None:
    record(tmp_path / "set", TOTAL - 1)
    kept = tmp_path / ".set.partial" / FOLDER
    assert len([*kept.glob("*.npz")]) == TOTAL - 1
    assert 0 < len([*kept.glob("*.npy")]) < (TOTAL - 1) * len(CAMERAS)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(("name", "first"), [("00000003.npz", 3), ("00000004-front.npy", 4)])
def test_what_did_not_reach_the_disk_is_recorded_again(
    name: str, first: int, whole: dict[str, bytes], tmp_path: Path
) -> None:
    record(tmp_path / "set", 5)
    _cut(tmp_path / ".set.partial" / FOLDER / name)
    assert record(tmp_path / "set") == first
    assert content(tmp_path / "set") == whole


def test_episodes_of_something_else_are_not_gone_on_with(whole: dict[str, bytes], tmp_path: Path) -> None:
    record(tmp_path / "set", 5, key="another")
    assert record(tmp_path / "set") == 0
    assert content(tmp_path / "set") == whole


@pytest.mark.parametrize(
    ("error", "left"), [(DataError("damaged"), False), (OSError(errno.ENOSPC, "full"), True), (RuntimeError(), True)]
)
def test_only_bad_data_leave_nothing(error: BaseException, left: bool, tmp_path: Path) -> None:
    record(tmp_path / "set", 2, error)
    assert (tmp_path / ".set.partial").exists() == left


def test_a_full_disk_is_told_with_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Callable[[int], Iterator[Episode]] = Asked(2, OSError(errno.ENOSPC, "full"))
    with pytest.raises(OSError, match=r"after 2 episodes; kept. Free space and run it again; it goes on"):
        resume_lerobot(asked, "key", tmp_path / "set", SPEC, TOTAL)
