"""Damaged files and messages are read, or refused with an error that says which: nothing else ever happens.

RSLWM_MUTATIONS=10000 pytest tests/mutations    tries so many in all, in place of a few of each kind
"""

import os
from pathlib import Path

import pytest

from subjects import COSTLY, SUBJECTS
from trial import examine

SHARE = 4
"""Of a kind that is read in a few milliseconds, as many are tried as of so many others."""
FEW = 3
SHARES = sum(1 if name in COSTLY else SHARE for name in SUBJECTS)
EACH = -(-int(os.environ.get("RSLWM_MUTATIONS", FEW * SHARES)) // SHARES)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_damage_is_read_or_refused(name: str, tmp_path: Path) -> None:
    count = EACH * (1 if name in COSTLY else SHARE)
    found = examine(SUBJECTS[name], name, tmp_path, count)
    print(f"{name}: {dict(found.outcomes)}")  # pytest -rP shows it
    assert found.outcomes.total() == count
    assert not found.defects, "\n".join(found.defects[:20])
