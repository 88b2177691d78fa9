"""What docs/actions.md says: its specs are read, its names tell, its table is what composition does."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from rslwm.data.actions import compose
from rslwm.data.conventions import stored_spec
from rslwm.data.naming import read_names
from rslwm.types import ActionSpec

PAGE = (Path(__file__).parents[2] / "docs/actions.md").read_text("utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
RULES = re.findall(r"^\| `(\w+)` \| .* \| (\w+).* \| (\w+) \| (\w+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_spec(example: str) -> None:
    spec = stored_spec(yaml.safe_load(example)["action_spec"], "docs/actions.md")
    assert spec.composed(3).hz == pytest.approx(spec.hz / 3)


def test_there_are_as_many_examples_and_kinds_as_the_page_has() -> None:
    assert (len(EXAMPLES), len(RULES)) == (5, 7)


@pytest.mark.parametrize("rule", RULES, ids=[rule[0] for rule in RULES])
def test_every_kind_is_composed_as_the_table_says(rule: tuple[str, str, str, str]) -> None:
    kind, *ways = rule
    names = ("qx", "qy", "qz", "qw")[: 4 if kind == "quaternion" else 3]
    n = len(names)
    actions = np.random.default_rng(0).uniform(0.1, 0.5, (3, n)).astype(np.float32)
    simple = {"sum": actions.sum(0), "mean": actions.mean(0), "last": actions[-1]}
    for mode, way in zip(("delta", "velocity", "absolute"), ways, strict=True):
        spec = ActionSpec(names, (kind,) * n, ("rad",) * n, (-1,) * n, (1,) * n, mode=(mode,) * n)
        alike = [other for other, value in simple.items() if np.allclose(compose(actions, spec), value, atol=1e-6)]
        assert alike == [way for way in [way] if way != "composed"]


def test_names_that_are_said_to_tell_do_and_the_others_do_not() -> None:
    told = PAGE[PAGE.index("## Names that tell") : PAGE.index("These don't tell")]
    rows = [re.findall(r"`([\w.]+)`", row.split("|")[1]) for row in told.splitlines() if row.startswith("| `")]
    complete = [names for names in rows if not {"left_waist", "drx", "delta_qx"} & {*names}]
    assert [n for names in complete for n, each in zip(names, read_names(names), strict=True) if None in each] == []
    rest = PAGE[PAGE.index("These don't tell") : PAGE.index("Names don't tell the frame")]
    untold = re.findall(r"`([\w.]+)`", rest)
    assert len(untold) == 9
    assert [name for name in untold if None not in read_names([name])[0]] == []
