"""What a picture shows, as numbers, and lessons made of them."""

import numpy as np
import pytest

from rslwm.sim.experts import expert_action
from rslwm.sim.lessons import LessonConfig, lesson
from rslwm.sim.sight import FACTS, WIDTH, as_seen, facts
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
        # The hand isn't quite where the controller wants it.
        action = expert_action(table.task, state)
        np.testing.assert_allclose(expert_action(task, seen)[[0, 1, 2, 6]], action[[0, 1, 2, 6]], atol=0.006)
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
    at = list(FACTS).index("gripper")
    assert at == 0
    # Metres moved are not those that were told: the arm was lost, and trembled.
    moved, asked = np.diff(told.facts[:, :3], axis=0) * 0.1, spec.denormalise(told.actions)[:-1, :3]
    assert np.abs(moved - asked).max() > 0.01
