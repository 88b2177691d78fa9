"""Several processes at one piece of work: all end, and the one that failed is the one that is named."""

import errno
import os
import signal
import time

import pytest

from rslwm.ranks import together
from rslwm.types import Progress, silent


def report_its_place(report: Progress) -> None:
    report(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), os.environ["MASTER_ADDR"])


def fail_second(report: Progress) -> None:
    if os.environ["RANK"] == "1":
        raise OSError(errno.ENOSPC, "the disk is full")
    time.sleep(600)


def die_second(report: Progress) -> None:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    raise RuntimeError("Connection closed by peer")


def test_the_first_one_reports() -> None:
    heard: list[tuple[int, int, str]] = []
    together(report_its_place, 2, lambda *said: heard.append(said))
    assert heard == [(0, 2, "127.0.0.1")]


def test_what_one_raises_ends_all_and_is_raised() -> None:
    with pytest.raises(OSError, match="the disk is full") as raised:
        together(fail_second, 2, silent)
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.slow
def test_a_killed_one_is_named_and_not_what_the_others_say_of_it() -> None:
    with pytest.raises(MemoryError, match="process 1 of 2 was killed by SIGKILL"):
        together(die_second, 2, silent)
