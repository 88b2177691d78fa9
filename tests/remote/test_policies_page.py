"""The mappings and the Python of docs/policies.md are right as they stand there."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies import Painter
from rslwm.actors.served import serve
from rslwm.remote.mapping import ActionMapping, Gripper, ObservationMapping, PolicyMapping
from rslwm.remote.vla_eval import action_spec, told
from rslwm.serialisation import dump, from_dict
from rslwm.sim.tabletop import SPEC

PAGE = (Path(__file__).parents[2] / "docs/policies.md").read_text()
YAML = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]
MAPPINGS = {values["protocol"]: from_dict(PolicyMapping, values) for values in YAML if "protocol" in values}


@pytest.mark.parametrize("protocol", ["act", "openpi", "vla-eval"])
def test_every_protocol_has_a_mapping_that_lacks_nothing(protocol: str) -> None:
    known = told({"protocol_version": 1, "action_spec": action_spec(SPEC)}) if protocol == "vla-eval" else None
    resolved = MAPPINGS[protocol].resolved(SPEC, known)
    assert resolved.actions.columns == {name: i for i, name in enumerate(SPEC.names)}
    assert resolved.steps(SPEC.composed(5)) == 5


def test_the_python_plays_a_policy_at_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    with serve(Painter, SPEC, "openpi", port=0) as server:
        dump(replace(MAPPINGS["openpi"], address=server.address), tmp_path / "policy.yaml")
        exec(compile(block, "docs/policies.md", "exec"), names)
    assert names["played"].seen.actions.shape == (2, 5, 7)
    assert names["policy"].failures == {}
    assert "'failures': {}" in capsys.readouterr().out


def test_the_table_has_every_field_and_convention() -> None:
    fields = {*vars(ObservationMapping()), *vars(ActionMapping()), *vars(PolicyMapping("act", ""))}
    named = {name.rpartition(".")[2] for name in re.findall(r"`([a-z_.]+)`", PAGE)}
    assert fields - named == {"protocol", "address", "observation", "actions"}
    assert all(f"`{convention}`" in PAGE for convention in Gripper.__args__)  # type: ignore[attr-defined]
