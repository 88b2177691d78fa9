"""What a picture shows, as numbers, and lessons made of them."""

from dataclasses import replace

import numpy as np
import pytest

from rslwm.sim.experts import expert_action
from rslwm.sim.lessons import LessonConfig, lesson
from rslwm.sim.scene import COLOURS
from rslwm.sim.sight import FACTS, METRES, WIDTH, as_seen, facts, places, where
from rslwm.sim.tabletop import SPEC, Tabletop
from rslwm.sim.tasks import FAMILIES

CONFIG = LessonConfig(image_size=16, actions=8, lost=1.0, noise=(0.5,))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_does_with_the_facts_what_it_does_with_the_truth(family: str) -> None:
    table = Tabletop(16)
    state = table.reset(5, family)
    for _ in range(6):
        known = facts(table.task, state)
        assert known.shape == (WIDTH,)
        task, seen = as_seen(known)
        assert task.family == family
        np.testing.assert_allclose(seen.gripper_position, state.gripper_position, atol=1e-6)
        np.testing.assert_allclose(seen.gripper_rotation, state.gripper_rotation, atol=0.02)
        # Where the controller wants the hand can't be seen, nor how a cylinder is turned.
        objects = {name: pose if pose.square else replace(pose, yaw=0.0) for name, pose in state.objects.items()}
        hand = {"target_position": state.gripper_position, "target_rotation": state.gripper_rotation}
        there = replace(state, objects=objects, **hand)
        action = expert_action(table.task, there)
        np.testing.assert_allclose(expert_action(task, seen)[[0, 1, 2, 6]], action[[0, 1, 2, 6]], atol=1e-4)
        state = table.step(action)


def test_a_lesson_is_a_function_of_its_number() -> None:
    one, again, other = lesson(CONFIG, 1), lesson(CONFIG, 1), lesson(CONFIG, 5)
    for name in ("frames", "actions", "facts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert one.instruction == again.instruction
    assert not np.array_equal(one.facts[0], other.facts[0])


def test_a_lesson_says_what_the_expert_would_do_wherever_the_arm_went() -> None:
    told = lesson(CONFIG, 0)
    spec = SPEC.composed(CONFIG.frame_skip)
    for known, action in zip(told.facts, told.actions, strict=True):
        wanted = spec.normalise(expert_action(*as_seen(known), CONFIG.frame_skip))
        np.testing.assert_allclose(action, wanted, atol=1e-3)
    assert (np.abs(told.actions) <= 1 + 1e-5).all()
    # Metres moved are not those that were told: the arm was lost, and trembled.
    moved = np.diff(told.facts[:, where("gripper")], axis=0) * METRES
    assert np.abs(moved - spec.denormalise(told.actions)[:-1, :3]).max() > 0.01


def test_places_are_where_the_picture_shows_things() -> None:
    assert sum(FACTS.values()) == WIDTH
    table = Tabletop(64)
    state = table.reset(1, "push", 0)
    known = facts(table.task, state)
    (_, thing, goal), *_ = places(known[None], table.camera("front"))
    seen = table.render("front").astype(float)
    for spot, colour in ((thing, table.task.target), (goal, table.task.goal)):
        x, y = (spot * 64).astype(int)
        near = seen[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1)) / 255
        off = {name: np.linalg.norm(near / near.max() - np.array(rgb) / max(rgb)) for name, rgb in COLOURS.items()}
        assert min(off, key=off.__getitem__) == colour
