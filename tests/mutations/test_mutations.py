"""Damaged files and messages are read, or refused with an error that says which: nothing else ever happens.

RSLWM_MUTATIONS=10000 pytest tests/mutations    tries so many in all, in place of a few of each kind
"""

import os
from pathlib import Path

import pytest

from subjects import SUBJECTS
from trial import examine

FEW = 8
COUNT = int(os.environ.get("RSLWM_MUTATIONS", FEW * len(SUBJECTS))) // len(SUBJECTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_damage_is_read_or_refused(name: str, tmp_path: Path) -> None:
    found = examine(SUBJECTS[name], name, tmp_path, COUNT)
    print(f"{name}: {dict(found.outcomes)}")  # pytest -rP shows it
    assert found.outcomes.total() == COUNT
    assert not found.defects, "\n".join(found.defects[:20])
