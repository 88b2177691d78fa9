from functools import partial

import pytest
import torch

from rslwm.bench.measure import CLEAR, peak_bytes

MB = 2**20


def hold(megabytes: int):
    """Work that needs so much memory twice, one after the other, beyond what was built before."""
    built = torch.ones(megabytes * MB // 4)
    torch.ones(2 * megabytes * MB // 4)  # a peak that isn't the work's

    def work() -> None:
        for _ in range(2):
            torch.ones_like(built)

    return work


@pytest.mark.skipif(not CLEAR.exists(), reason="the peak of the resident size can be read on Linux only")
def test_peak_is_what_the_work_holds_at_once():
    assert peak_bytes(partial(hold, 128)) == pytest.approx(128 * MB, rel=0.1)
