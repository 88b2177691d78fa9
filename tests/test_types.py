"""The contracts that everything else is built on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rslwm.serialisation import from_dict, to_dict
from rslwm.types import GRIPPERS, ActionKind, ActionSpec, DataError, LatentSpec, end_effector_spec

SPEC = end_effector_spec(0.05, 0.25)


def test_the_bounds_are_at_minus_one_and_one() -> None:
    ends = np.stack([SPEC.low, SPEC.high])
    np.testing.assert_allclose(SPEC.normalise(ends), [[-1] * 7, [1] * 7], atol=1e-6)


def test_denormalise_undoes_normalise_also_beyond_the_bounds() -> None:
    actions = np.random.default_rng(0).normal(0, 0.3, (5, 4, 7)).astype(np.float32)
    np.testing.assert_allclose(SPEC.denormalise(SPEC.normalise(actions)), actions, atol=1e-6)


def test_composed_delta_bounds_grow_but_the_grippers_do_not() -> None:
    composed = SPEC.composed(3)
    assert composed.high == pytest.approx((0.15,) * 3 + (0.75,) * 3 + (1.0,))
    assert composed.hz == pytest.approx(5 / 3)
    assert SPEC.composed(1) == SPEC


def test_of_mixed_modes_only_deltas_bounds_grow() -> None:
    modes = ("delta",) * 2 + ("velocity",) * 2 + ("absolute",) * 2 + ("delta",)
    composed = replace(SPEC, kinds=("joint",) * 6 + ("gripper",), mode=modes).composed(3)
    assert composed.high == pytest.approx((0.15, 0.15, 0.05, 0.25, 0.25, 0.25, 3.0))
    assert composed.mode == modes


def test_one_word_says_what_a_word_a_dimension_says() -> None:
    assert replace(SPEC, mode=("delta",) * 6 + ("absolute",)) == SPEC
    assert replace(SPEC, mode=("absolute",) * 7).mode == "absolute"
    assert SPEC.modes == ("delta",) * 6 + ("absolute",)
    assert replace(SPEC, mode=("delta",) * 7).mode == ("delta",) * 7


def test_still_is_no_change_in_units_also_between_asymmetric_bounds() -> None:
    spec = ActionSpec(
        ("j1", "x.vel"), ("joint", "translation"), ("rad", "m/s"), (-1, -0.2), (3, 0.6), mode=("delta", "velocity")
    )
    np.testing.assert_allclose(spec.still(), [-0.5, -0.5])
    np.testing.assert_allclose(spec.denormalise(spec.still()), 0, atol=1e-7)
    np.testing.assert_allclose(SPEC.still()[:6], 0)


def test_still_keeps_the_last_value_of_what_is_absolute() -> None:
    spec = replace(SPEC, kinds=("joint",) * 6 + ("gripper",), mode=("absolute",) * 3 + ("delta",) * 3 + ("absolute",))
    last = np.random.default_rng(0).uniform(-1, 1, (4, 2, 7)).astype(np.float32)
    still = spec.still(last)
    np.testing.assert_array_equal(still[..., [0, 1, 2, 6]], last[..., [0, 1, 2, 6]])
    np.testing.assert_allclose(still[..., 3:6], 0, atol=1e-7)
    np.testing.assert_array_equal(np.isnan(spec.still()), [True] * 3 + [False] * 3 + [True])


def test_a_quaternion_that_turns_nothing_is_one() -> None:
    names = ("qw", "qx", "qy", "qz")
    spec = ActionSpec(names, ("quaternion",) * 4, ("1",) * 4, (0.5, -0.5, -0.5, -0.5), (1, 0.5, 0.5, 0.5))
    np.testing.assert_allclose(spec.denormalise(spec.still()), [1, 0, 0, 0], atol=1e-7)


@pytest.mark.parametrize(
    ("kinds", "moving"),
    [
        (("translation", "rotation", "angle", "joint", "gripper", "other"), [0, 1, 2, 3]),
        (("other", "other", "gripper", "other", "gripper", "other"), [0, 1, 3, 5]),
        (("gripper",) * 6, []),
    ],
)
def test_what_moves_is_neither_gripper_nor_other_unless_there_is_nothing_else(kinds: tuple, moving: list[int]) -> None:
    spec = ActionSpec(("a", "b", "c", "d", "e", "f"), kinds, ("1",) * 6, (-1,) * 6, (1,) * 6, mode="absolute")
    assert spec.moving == moving


def test_a_spec_of_modes_survives_a_round_trip_through_json() -> None:
    spec = replace(SPEC, mode=("delta",) * 3 + ("velocity",) * 3 + ("absolute",), kinds=("joint",) * 6 + ("gripper",))
    assert ActionSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_composed_absolute_actions_keep_their_bounds_at_a_lower_rate() -> None:
    composed = replace(SPEC, mode="absolute").composed(2)
    assert (composed.low, composed.high, composed.hz) == (SPEC.low, SPEC.high, 2.5)


def test_specs_that_differ_are_refused_with_the_first_field() -> None:
    SPEC.require(end_effector_spec(0.05, 0.25), "here", "there")
    with pytest.raises(DataError, match=r"data and model differ in 'frame': base against camera"):
        SPEC.require(replace(SPEC, frame="camera"), "data", "model")


def test_specs_that_differ_in_bounds_and_in_the_grippers_sense_mean_the_same() -> None:
    other = replace(end_effector_spec(0.1, 0.5), gripper=GRIPPERS[1])
    SPEC.require(other, "here", "there")
    with pytest.raises(DataError, match=r"differ in 'gripper': 1 is open, 0 is closed against as recorded"):
        SPEC.require(replace(SPEC, gripper="as recorded"), "data", "model")


def test_bounds_count_where_the_unit_is_as_recorded() -> None:
    joints = replace(SPEC, kinds=("joint",) * 6 + ("gripper",), units=("as recorded",) * 6 + ("1",))
    with pytest.raises(DataError, match=r"differ in 'low': .* Convert"):
        joints.require(replace(joints, low=(-0.1, *joints.low[1:])), "here", "there")


@pytest.mark.parametrize("kind", ["other", "gripper"])
def test_bounds_count_where_they_are_all_that_is_known(kind: ActionKind) -> None:
    vague = replace(SPEC, kinds=(*SPEC.kinds[:6], kind), gripper="as recorded")
    vague.require(replace(vague, low=(-0.1, *vague.low[1:])), "here", "there")
    with pytest.raises(DataError, match=r"differ in 'high': \[1\.0\] against \[100\.0\]"):
        vague.require(replace(vague, high=(*vague.high[:6], 100.0)), "data", "model")


def test_a_conversion_turns_the_gripper_round_and_nothing_else() -> None:
    actions = np.array([[0.01, 0, 0, 0.1, 0, 0, 0.2]], np.float32)
    turned = replace(SPEC, gripper=GRIPPERS[1])
    recorded = replace(SPEC, low=(*SPEC.low[:6], 0.05), high=(*SPEC.high[:6], 0.9))  # bounds don't say what 0 and 1 are
    for source in (SPEC, recorded):
        np.testing.assert_allclose(turned.convert(actions, source), [[0.01, 0, 0, 0.1, 0, 0, 0.8]])
    np.testing.assert_allclose(SPEC.convert(turned.convert(actions, SPEC), turned), actions, atol=1e-7)
    assert SPEC.convert(actions, SPEC) is actions


def test_a_conversion_turns_the_sign_of_a_gripper_that_is_a_delta() -> None:
    spec = replace(SPEC, mode=("delta",) * 7)
    actions = np.array([[0.01, 0, 0, 0.1, 0, 0, 0.2]], np.float32)
    converted = replace(spec, gripper=GRIPPERS[1]).convert(actions, spec)
    np.testing.assert_allclose(converted, [[0.01, 0, 0, 0.1, 0, 0, -0.2]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": ("m",)}, r"ActionSpec.units has 1 entries for 7"),
        ({"high": (-0.05, *SPEC.high[1:])}, r"'x' has bounds \[-0.05, -0.05\]"),
        ({"high": (float("inf"), *SPEC.high[1:])}, r"'x' has bounds \[-0.05, inf\]"),
        ({"mode": ("delta",) * 3}, r"ActionSpec.mode has 3 entries for 7"),
        ({"kinds": ("translation",) * 5 + ("rotation", "gripper")}, r"1 dimensions \['yaw'\]; each takes 3.*'angle'"),
        ({"kinds": ("quaternion",) * 4 + ("joint",) * 3}, r"4 dimensions \['x', 'y', 'z', 'roll'\]; each takes 4"),
        ({"units": ("m",) * 3 + ("rad", "rad", "deg", "1")}, r"one rotation, but differ in mode or units"),
        ({"high": (float("nan"), *SPEC.high[1:])}, r"'x' has bounds"),
    ],
)
def test_an_impossible_spec_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)


def test_action_spec_survives_a_round_trip() -> None:
    assert ActionSpec.from_dict(SPEC.to_dict()) == SPEC


def test_where_finds_dimensions_by_kind() -> None:
    assert SPEC.where("rotation") == [3, 4, 5]
    assert SPEC.where("translation", "gripper") == [0, 1, 2, 6]


def test_latent_spec_survives_a_round_trip_with_tuples_in_it() -> None:
    spec = LatentSpec("x", "semantic", (4, 6), 3, preprocessing={"size": (224, 224)})
    assert from_dict(LatentSpec, to_dict(spec)) == spec
    assert spec.preprocessing == {"size": [224, 224]}
    assert spec.bytes_per_frame == 2 * 4 * 6 * 3


def test_preprocessing_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preprocessing of 'x' must be of JSON types"):
        LatentSpec("x", "semantic", (4, 4), 3, preprocessing={"mean": np.zeros(3)})
