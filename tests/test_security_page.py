"""Every promise of SECURITY.md names a test, and the test is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")][1:]


def test_there_are_promises() -> None:
    assert len(ROWS) > 15


@pytest.mark.parametrize("row", ROWS)
def test_a_promise_names_a_test_that_is_there(row: str) -> None:
    found = re.search(r"`(tests/[\w/]+\.py)::(\w+)`", row)
    assert found, row
    defined = {node.name for node in ast.parse((ROOT / found[1]).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert found[2] in defined
