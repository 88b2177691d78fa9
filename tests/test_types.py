"""The contracts that everything else is built on."""

from dataclasses import replace

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": ("m",)}, r"ActionSpec.units has 1 entries for 7"),
        ({"high": (-0.05, *SPEC.high[1:])}, r"'x' has bounds \[-0.05, -0.05\]"),
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
    assert LatentSpec.from_dict(spec.to_dict()) == spec
    assert spec.preprocessing == {"size": [224, 224]}
    assert spec.bytes_per_frame == 2 * 4 * 6 * 3


def test_preprocessing_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preprocessing of 'x' must be of JSON types"):
        LatentSpec("x", "semantic", (4, 4), 3, preprocessing={"mean": np.zeros(3)})
