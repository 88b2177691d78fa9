"""What perturbations do to episodes and to pictures."""

from dataclasses import replace

import numpy as np
import pytest

from rslwm.data.config import DataConfig
from rslwm.evals.perturbations import PERTURBATIONS, perturbation, perturbations
from rslwm.registry import UnknownName
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.sim.record import record_episode

SIM = DataConfig()
FEW = replace(SIM, sim=SimConfig(families=("push", "pick")))
RECORDING = DataConfig(uri="lerobot:/nowhere")
NOTHING = {"light": "strength=0", "camera": "shift=0,zoom=0", "colours": "strength=0", "distractors": "more=0"}
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)


def draw() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("name", ["light", "camera", "colours"])
def test_strength_zero_leaves_pictures_exactly_as_they_are(name: str) -> None:
    found = perturbation(f"{name}[{NOTHING[name]}]", RECORDING)
    np.testing.assert_array_equal(found.picture(FRAMES, draw()), FRAMES)


@pytest.mark.parametrize("name", ["light", "camera", "colours"])
def test_pictures_are_changed_one_way_an_episode(name: str) -> None:
    """The draw decides, and every frame is changed alike."""
    found = perturbation(name, RECORDING)
    still = np.repeat(FRAMES[:1], 3, 0)
    changed = found.picture(still, draw())
    assert (changed.shape, changed.dtype) == (still.shape, np.uint8)
    assert np.abs(changed.astype(int) - still).mean() > 5
    np.testing.assert_array_equal(changed, np.repeat(changed[:1], 3, 0))
    np.testing.assert_array_equal(changed, found.picture(still, draw()))
    assert any((found.picture(still, np.random.default_rng(n)) != changed).any() for n in range(5))


def test_a_turned_hue_leaves_greys_alone() -> None:
    grey = np.repeat(FRAMES[..., :1], 3, -1)
    np.testing.assert_array_equal(perturbation("colours", RECORDING).picture(grey, draw()), grey)


def test_a_shifted_camera_shows_what_was_in_the_picture() -> None:
    """No border appears: what a ramp shows at its edges lies inside."""
    ramp = np.broadcast_to(np.linspace(0, 255, 64)[None, None, :, None], (1, 64, 64, 3)).astype(np.uint8)
    shown = perturbation("camera[zoom=0.25]", RECORDING).picture(ramp, draw())[0, 32, :, 0].astype(int)
    assert 5 < shown.min() < shown.max() < 250
    assert (np.diff(shown) >= 0).all()
    assert np.diff(shown).mean() == pytest.approx(255 / 63 / 1.25, rel=0.1)


@pytest.mark.parametrize(
    ("reference", "data", "message"),
    [
        ("distractors", RECORDING, r"robustness: distractors: the data are a recording, whose pictures alone"),
        ("family", RECORDING, r"robustness: family: the data are a recording"),
        ("family", SIM, r"every family; leave one out with --data\.sim\.families push,pick,stack$"),
        ("light[dim=1]", SIM, r"robustness: light: unknown field 'dim'; known: strength"),
        ("light[0.5]", SIM, r"robustness: 'light\[0\.5\]': '0\.5' is not of the form"),
    ],
)
def test_what_the_data_can_not_show_is_refused(reference: str, data: DataConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        perturbation(reference, data)


def test_a_name_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UnknownName, match=r"no perturbation called 'lihgt'; did you mean 'light'"):
        perturbation("lihgt", SIM)


def test_all_are_those_that_the_data_can_show() -> None:
    assert [*perturbations(("all",), RECORDING)] == ["light", "camera", "colours"]
    assert [*perturbations(("all",), SIM)] == ["light", "camera", "colours", "distractors"]
    assert [*perturbations(("all", "light[strength=2]"), FEW)] == [*PERTURBATIONS, "light[strength=2]"]


# -------------------------------------------------------------------------------------------------- in the simulator

SMALL = SimConfig(image_size=32, min_steps=12, max_steps=14, families=("push", "pick"))
NUMBER = 3


@pytest.fixture(scope="module")
def usual():
    return record_episode(SMALL, NUMBER)


@pytest.mark.parametrize("name", ["light", "camera", "colours"])
def test_a_look_changes_pixels_and_nothing_else(name, usual):
    changed = PERTURBATIONS.get(name)().episode(SMALL, NUMBER)
    assert np.abs(changed.frames["front"].astype(int) - usual.frames["front"]).mean() > 1
    np.testing.assert_array_equal(changed.actions, usual.actions)
    for state, values in usual.states.items():
        np.testing.assert_array_equal(changed.states[state], values)
    assert (changed.success, changed.instruction) == (usual.success, usual.instruction)


@pytest.mark.parametrize("name", NOTHING)
def test_strength_zero_records_the_same_episode(name, usual):
    same = perturbation(f"{name}[{NOTHING[name]}]", SIM).episode(SMALL, NUMBER)
    np.testing.assert_array_equal(same.frames["front"], usual.frames["front"])
    np.testing.assert_array_equal(same.actions, usual.actions)
    for state, values in usual.states.items():
        np.testing.assert_array_equal(same.states[state], values)


def test_distractors_are_added_and_nobody_is_asked_where_they_are(usual):
    crowded = PERTURBATIONS.get("distractors")().episode(SMALL, NUMBER)
    assert len(crowded.info["objects"]) == len(usual.info["objects"]) + 2
    assert crowded.info["objects"].items() >= usual.info["objects"].items()
    np.testing.assert_array_equal(crowded.actions, usual.actions)
    np.testing.assert_array_equal(crowded.states["object_present"], usual.states["object_present"])
    for state in ("object_position", "goal_position"):  # before anything can have been touched
        np.testing.assert_allclose(crowded.states[state][0], usual.states[state][0], atol=1e-6)
    assert np.abs(crowded.frames["front"][0].astype(int) - usual.frames["front"][0]).max() > 50


def test_no_look_of_one_episode_is_left_in_the_next(usual):
    for name in ("colours", "distractors"):
        PERTURBATIONS.get(name)().episode(SMALL, NUMBER)
    np.testing.assert_array_equal(record_episode(SMALL, NUMBER).frames["front"], usual.frames["front"])


def test_an_unseen_family_has_the_robot_the_noise_and_the_length_of_the_same_seed(usual):
    other = PERTURBATIONS.get("family")().episode(SMALL, NUMBER)
    assert other.info["family"] not in SMALL.families
    assert len(other.actions) == len(usual.actions)
    assert other.info["noise"] == usual.info["noise"]
    np.testing.assert_allclose(other.states["gripper_position"][0], usual.states["gripper_position"][0], atol=2e-3)
