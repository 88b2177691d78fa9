"""What a mapping file must say, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies import SPEC, mapping
from rslwm.remote.arrays import ProtocolError
from rslwm.remote.mapping import ActionMapping, PolicyMapping, read
from rslwm.remote.vla_eval import Told, action_spec, told
from rslwm.serialisation import ConfigError, dump, from_dict, to_dict
from rslwm.types import ActionSpec

ACT = mapping("act", "http://127.0.0.1:1")
OPENVLA = {
    "position": {"name": "position", "dims": 3, "format": "delta_xyz", "range": [-1, 1]},
    "rotation": {"name": "rotation", "dims": 3, "format": "axis_angle"},
    "gripper": {"name": "gripper", "dims": 1, "format": "binary_close_positive", "range": [-1, 1]},
}


def hello(**spec: Any) -> dict[str, Any]:
    return {"protocol_version": 1, "action_spec": OPENVLA | spec}


def actions(**changes: Any) -> PolicyMapping:
    return replace(ACT, actions=replace(ACT.actions, **changes))


@pytest.mark.parametrize("protocol", ["act", "openpi", "vla-eval"])
def test_what_no_protocol_tells_is_asked_for_with_lines_that_can_be_added(protocol: Any, tmp_path: Path) -> None:
    address = f"{'http' if protocol == 'act' else 'ws'}://127.0.0.1:8000"
    with pytest.raises(ConfigError, match="Add these lines") as error:
        PolicyMapping(protocol, address).resolved(SPEC)
    lines = str(error.value).partition("\n")[2]
    (tmp_path / "policy.yaml").write_text(f"protocol: {protocol}\naddress: {address}\n{lines}\n")
    completed = read(tmp_path / "policy.yaml").resolved(SPEC)
    assert completed.actions.columns == {name: i for i, name in enumerate(SPEC.names)}


@pytest.mark.parametrize("name", ["width", "mode", "frame", "rotation", "gripper", "execute", "hz"])
def test_each_of_them_is_asked_for(name: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)Add these lines.*\nactions:\n  {name}: "):
        actions(**{name: None}).resolved(SPEC)


def test_every_dimension_that_moves_has_a_scale() -> None:
    with pytest.raises(ConfigError, match=r"scale: \{rotation: 1.0\}"):
        actions(scale={"translation": 1.0}).resolved(SPEC)
    with pytest.raises(ConfigError, match=r"scale: \{translation: 1.0\}"):
        actions(scale={"x": 1.0, "rotation": 1.0}).resolved(SPEC)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mode": "absolute"}, "actions.mode: the policy's are absolute, 'x' of the world is delta"),
        ({"frame": "tool"}, "actions.frame: the policy's is 'tool', the world's 'base'"),
        ({"width": 8}, "columns .* of an action of 8 numbers"),
        ({"ignored": (0,)}, "only once"),
        ({"columns": {"x": 0}, "width": 1}, "'y' has no column"),
        ({"fixed": {"x": 0.0}}, "'x' has two sources"),
        ({"fixed": {"elbow": 0.0}}, "actions.fixed: 'elbow' isn't one of"),
        ({"scale": {"translation": 1.0, "rotation": 1.0, "speed": 2.0}}, "actions.scale: 'speed'"),
        ({"execute": 0}, "actions.execute is 0"),
        ({"hz": 7.0}, r"7.0 times a second, the world 5.0 times: 1.4 actions"),
        ({"hz": 2.5}, r"0.5 actions"),
    ],
)
def test_what_cant_be_turned_into_the_worlds_actions_is_refused(changes: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        actions(**changes).resolved(SPEC)


def test_a_gripper_of_which_nobody_knows_how_it_opens_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"nobody knows which way 'gripper'.*'as recorded'"):
        ACT.resolved(replace(SPEC, gripper="as recorded"))


def test_two_of_three_angles_are_no_turn() -> None:
    columns = {name: i for i, name in enumerate(["x", "y", "z", "roll", "pitch", "gripper"])}
    with pytest.raises(ConfigError, match="roll, pitch, yaw are one turn"):
        actions(columns=columns, width=6, fixed={"yaw": 0.0}, rotation="euler_xyz").resolved(SPEC)


def test_a_mapping_is_written_and_read_back(tmp_path: Path) -> None:
    dump(ACT, tmp_path / "policy.yaml")
    assert read(tmp_path / "policy.yaml") == ACT
    assert from_dict(PolicyMapping, to_dict(ACT)) == ACT
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(to_dict(ACT) | {"protocol": "grpc"}))
    with pytest.raises(ConfigError, match="'grpc' is not one of"):
        read(tmp_path / "wrong.yaml")


def test_vla_eval_tells_all_but_scale_frame_and_rate() -> None:
    known = told(hello())
    assert (known.width, known.mode, known.rotation, known.gripper) == (
        7,
        "delta",
        "rotation_vector",
        "-1 is open, 1 is closed",
    )
    file = replace(ACT.actions, width=None, columns={}, mode=None, rotation=None, gripper=None)
    found = replace(ACT, protocol="vla-eval", actions=file).resolved(SPEC, known).actions
    assert found == replace(ACT.actions, gripper="-1 is open, 1 is closed")


@pytest.mark.parametrize(
    ("spec", "stated", "reason"),
    [
        ({}, {"gripper": "1 is open, -1 is closed"}, "gripper.*'1 is open, -1 is closed'.*says '-1 is open, 1"),
        ({}, {"rotation": "euler_xyz"}, "rotation.*says 'euler_xyz'.*says 'rotation_vector'"),
        ({}, {"mode": "velocity"}, "mode"),
        ({}, {"width": 8}, "width"),
        ({}, {"columns": {"x": 1, "y": 0}}, "columns.x.*translation in column 1.*translation y in column 1"),
        ({}, {"columns": {"gripper": 0}}, "columns.gripper"),
        (
            {"gripper": {"dims": 1, "format": "continuous_01"}},
            {"gripper": "1 is open, -1 is closed"},
            "'1 is open, 0 is closed or 0 is open, 1 is closed'",
        ),
    ],
)
def test_a_server_that_says_something_else_is_an_error_that_names_both(spec: dict, stated: dict, reason: str) -> None:
    file = replace(ActionMapping(), **stated)
    with pytest.raises(ConfigError, match=reason):
        replace(ACT, actions=file).resolved(SPEC, told(hello(**spec)))


def test_what_a_word_of_vla_eval_leaves_open_the_file_must_say() -> None:
    known = told(hello(gripper={"dims": 1, "format": "continuous_01"}))
    assert (known.gripper, known.grippers) == (None, ("1 is open, 0 is closed", "0 is open, 1 is closed"))
    with pytest.raises(ConfigError, match=r"(?s)Add these lines.*\n  gripper: "):
        replace(ACT, actions=replace(ACT.actions, gripper=None)).resolved(SPEC, known)
    assert told({"protocol_version": 1}) == Told()


@pytest.mark.parametrize(
    ("said", "error", "reason"),
    [
        ({"protocol_version": 2}, ConfigError, "version 2 .*, this client 1"),
        (hello(rotation={"dims": 4, "format": "quaternion_xyzw"}), ConfigError, "aren't converted"),
        (hello(position={"dims": 2, "format": "delta_xyz"}), ProtocolError, "expected 3"),
        (hello(position={"dims": 10**9, "format": "raw"}), ProtocolError, "from 0 to 64"),
        (hello(position={"format": "raw"}), ProtocolError, "from 0 to 64"),
        (hello(position="raw"), ProtocolError, "from 0 to 64"),
        ({"protocol_version": 1, "action_spec": [1]}, ProtocolError, "expected a map"),
        (hello(more={"dims": 3, "format": "absolute_xyz"}), ProtocolError, "differ in mode"),
    ],
)
def test_an_action_spec_that_isnt_one(said: dict, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        told(said)


def test_what_is_said_of_our_actions_is_read_back() -> None:
    spec = action_spec(SPEC)
    assert [component["format"] for component in spec.values()] == [
        "delta_xyz",
        "axis_angle",
        "binary_close_positive",
    ]
    assert spec["position"]["range"] == [-0.05, 0.05]
    known = told({"protocol_version": 1, "action_spec": spec})
    assert known.columns_of(SPEC) == {name: i for i, name in enumerate(SPEC.names)}
    joints = ActionSpec(("a", "b"), ("joint",) * 2, ("rad",) * 2, (-1.0,) * 2, (1.0,) * 2, mode="absolute")
    assert action_spec(joints)["joint"]["format"] == "raw"
    assert told({"protocol_version": 1, "action_spec": action_spec(joints)}).columns_of(joints) == {}
