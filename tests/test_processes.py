"""Work spread over processes."""

import os
import time
from collections.abc import Iterator

import pytest

from rslwm.processes import AHEAD, number, spread


def square(x: int) -> int:
    return x * x


def slow_where_even(x: int) -> tuple[int, int, int]:
    time.sleep(0.2 * (x % 2 == 0))
    return x, number(), os.getpid()


def test_one_process_is_this_one():
    assert list(spread(lambda x: x + 1, [1, 2], 1)) == [2, 3]


@pytest.mark.slow
def test_results_keep_their_order_and_processes_have_numbers():
    made = list(spread(slow_where_even, range(8), 2))
    assert [x for x, _, _ in made] == list(range(8))
    workers = {pid: number for _, number, pid in made}
    assert os.getpid() not in workers
    assert sorted(workers.values()) == [0, 1]


@pytest.mark.slow
def test_work_stays_a_few_results_ahead_of_the_reader():
    asked: list[int] = []

    def items() -> Iterator[int]:
        for x in range(1000):
            asked.append(x)
            yield x

    results = spread(square, items(), 2)
    assert next(results) == 0
    assert len(asked) == 2 * AHEAD + 1
    results.close()
