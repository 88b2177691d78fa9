"""Conventions, each with numbers worked out by hand."""

from dataclasses import replace
from math import pi
from typing import Any

import numpy as np
import pytest

from policies import SPEC, mapping
from rslwm.remote.adapter import Adapter
from rslwm.remote.arrays import ProtocolError
from rslwm.remote.mapping import PolicyMapping
from rslwm.serialisation import ConfigError
from rslwm.types import GRIPPERS, ActionSpec

PLAIN = mapping("act", "http://127.0.0.1:1")
STILL = np.zeros(7)


def adapter(spec: ActionSpec = SPEC, file: PolicyMapping = PLAIN, **changes: Any) -> Adapter:
    return Adapter(replace(file, actions=replace(file.actions, **changes)).resolved(spec), spec)


def seen(**changes: Any) -> Adapter:
    return Adapter(replace(PLAIN, observation=replace(PLAIN.observation, **changes)), SPEC)


def test_scaled_columns_normalised_by_the_worlds_bounds() -> None:
    columns = {"gripper": 0, "x": 3, "y": 2, "z": 1, "roll": 4, "pitch": 5, "yaw": 6}
    it = adapter(columns=columns, scale={"translation": 0.01, "z": 0.02, "rotation": 0.1}, width=8, ignored=(7,))
    units = it.actions(np.array([1.0, 1.0, 2.0, -3.0, 0.5, 0.0, 0.0, 99.0]))
    assert units == pytest.approx(np.array([[-0.03, 0.02, 0.02, 0.05, 0.0, 0.0, 1.0]]))
    action, outside = it.composed(units)
    assert action == pytest.approx([-0.6, 0.4, 0.4, 0.2, 0.0, 0.0, 1.0], abs=1e-6)  # bounds: 0.05 m, 0.25 rad, [0, 1]
    assert outside == 0


@pytest.mark.parametrize(
    ("convention", "closed", "halfway", "opened"),
    [
        ("1 is open, 0 is closed", 0, 0.25, 1),
        ("0 is open, 1 is closed", 1, 0.75, 0),
        ("1 is open, -1 is closed", -1, -0.5, 1),
        ("-1 is open, 1 is closed", 1, 0.5, -1),
    ],
)
def test_grippers(convention: Any, closed: float, halfway: float, opened: float) -> None:
    rows = np.zeros((3, 7))
    rows[:, 6] = closed, halfway, opened
    for world, expected in ((GRIPPERS[0], [0, 0.25, 1]), (GRIPPERS[1], [1, 0.75, 0])):
        it = adapter(replace(SPEC, gripper=world), gripper=convention, execute=3)
        assert it.actions(rows)[:, 6].tolist() == expected


def test_a_threshold_in_their_numbers() -> None:
    rows = np.zeros((3, 7))
    rows[:, 6] = 0.5, 0.51, 0.7
    assert adapter(threshold=0.5, execute=3).actions(rows)[:, 6].tolist() == [0, 1, 1]
    upside_down = adapter(threshold=0.5, execute=3, gripper="-1 is open, 1 is closed")
    assert upside_down.actions(rows)[:, 6].tolist() == [1, 0, 0]


def test_angles_about_fixed_axes_become_a_rotation_vector() -> None:
    """A quarter turn about x, then one about the fixed z: a third of a turn about (1, 1, 1)."""
    row = STILL.copy()
    row[3], row[5] = pi / 2, pi / 2
    third = 2 * pi / 3 / 3**0.5
    assert adapter(rotation="euler_xyz").actions(row)[0, 3:6] == pytest.approx([third, third, third])
    assert adapter(rotation="rotation_vector").actions(row)[0, 3:6] == pytest.approx([pi / 2, 0, pi / 2])


def test_dimensions_that_the_policy_does_not_have() -> None:
    columns = {"x": 0, "y": 1, "z": 2, "gripper": 3}
    it = adapter(columns=columns, width=4, fixed={"roll": 0.0, "pitch": 0.1, "yaw": 0.0}, rotation=None)
    assert it.actions(np.array([0.01, 0.02, 0.03, 1.0])) == pytest.approx(
        np.array([[0.01, 0.02, 0.03, 0.0, 0.1, 0.0, 1.0]])
    )


def test_two_actions_of_the_policy_in_one_of_a_world_that_skips_frames() -> None:
    """Translations add, a quarter turn about x and then one about z compose, the last gripper counts."""
    world = SPEC.composed(2)  # 2.5 Hz, bounds 0.1 m and 0.5 rad
    it = adapter(world, execute=2)
    assert it.steps == 2
    rows = np.zeros((2, 7))
    rows[:, 0], rows[0, 3], rows[1, 5], rows[:, 6] = (0.01, 0.03), 0.2, 0.2, (1, 0)
    action, outside = it.composed(it.actions(rows))
    assert action[:3] == pytest.approx([0.4, 0, 0])
    assert action[3:6] == pytest.approx([0.4, 0.04, 0.4], abs=2e-3)  # 0.2 / 0.5; half the product of both turns
    assert action[6] == -1
    assert outside == 0


def test_what_lies_outside_the_bounds_is_counted_and_clipped() -> None:
    action, outside = adapter().composed(np.array([[0.06, -0.06, 0.05, 0, 0, 0, 1.5]]))
    assert action.tolist() == [1, -1, 1, 0, 0, 0, 1]
    assert outside == 3


def test_of_a_chunk_so_many_are_done() -> None:
    assert len(adapter(execute=3).actions(np.zeros((8, 7)))) == 3
    assert len(adapter(execute=3).actions(np.zeros((2, 7)))) == 2


def test_another_number_of_columns_is_refused() -> None:
    with pytest.raises(ProtocolError, match="an action has 8 numbers, the mapping says 7"):
        adapter().actions(np.zeros(8))


# ------------------------------------------------------------------------------------------------------- what is seen


def test_keys_lead_into_maps_and_constants_are_sent() -> None:
    it = seen(images={"images.primary": 0, "observation/wrist": 1}, prompt="words", constants={"unnorm_key": "bridge"})
    both = np.concatenate([np.zeros((16, 16, 3)), np.ones((16, 16, 3))], 1)
    sent = it.observation(both, "push", {})
    assert sent["images"]["primary"].max() == 0
    assert sent["observation/wrist"].min() == 255
    assert (sent["words"], sent["unnorm_key"]) == ("push", "bridge")


def test_pictures_are_rounded_and_resized_in_their_order() -> None:
    frame = np.full((8, 8, 3), 100.4 / 255)
    frame[..., 2] = 1.7  # beyond white
    stretched = seen(size=(4, 12)).observation(frame, "", {})["image"]
    assert (stretched.shape, stretched.dtype) == ((4, 12, 3), np.uint8)
    assert np.unique(stretched[..., 0]).tolist() == [100]
    assert np.unique(stretched[..., 2]).tolist() == [255]
    padded = seen(size=(4, 12), resize="pad", order="CHW").observation(frame, "", {})["image"]
    assert padded.shape == (3, 4, 12)
    assert (padded[0, :, 4:8] == 100).all()
    assert padded[0].sum() == 16 * 100  # the rest is black


def test_states_are_sent_only_if_the_world_has_them() -> None:
    it = seen(states={"state": "gripper_position"})
    sent = it.observation(np.zeros((8, 8, 3)), "", {"gripper_position": np.array([0.1, 0.2, 0.3])})
    assert sent["state"].dtype == np.float32
    with pytest.raises(ConfigError, match=r"observation.states.state: no state 'gripper_position'.*none, as a world"):
        it.observation(np.zeros((8, 8, 3)), "", {})
    with pytest.raises(ConfigError, match=r"there is no view 2; the world shows 1"):
        seen(images={"image": 2}).observation(np.zeros((8, 8, 3)), "", {})
    with pytest.raises(ProtocolError, match="isn't finite"):
        seen().observation(np.full((8, 8, 3), np.nan), "", {})
