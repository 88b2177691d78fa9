import numpy as np
import pytest

from rslwm.sim.tabletop import Tabletop, random_stream
from rslwm.sim.tasks import FAMILIES, HELD_OUT_SHARE, STATE_NAMES, draw_distractors, draw_task


def drawn(family: str, seed: int):
    return draw_task(family, random_stream(seed, "layout"), random_stream(seed, "language"))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_episode_starts_solved(family):
    table = Tabletop()
    for seed in range(25):
        state = table.reset(seed, family)
        assert not FAMILIES[family].reached(table.task, state)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_held_out_share_of_the_phrasings_is_fixed_and_theirs_alone(family):
    tasks = [drawn(family, seed)[0] for seed in range(400)]
    assert np.mean([t.held_out_phrasing for t in tasks]) == pytest.approx(HELD_OUT_SHARE, abs=0.06)
    held_out = {t.instruction for t in tasks if t.held_out_phrasing}
    assert held_out.isdisjoint(t.instruction for t in tasks if not t.held_out_phrasing)


@pytest.mark.parametrize("family", ["push", "pick", "stack"])
def test_the_instruction_names_the_object(family):
    for seed in range(40):
        task, layout = drawn(family, seed)
        shape = "cube" if layout.objects[task.target].shape == "box" else "cylinder"
        assert f"{task.target} {shape}" in task.instruction
        assert "{" not in task.instruction


def test_the_drawer_is_named_with_what_to_do():
    goals = set()
    for seed in range(40):
        task, layout = drawn("drawer", seed)
        goals.add(task.goal)
        assert ("clos" in task.instruction) == (task.goal == "closed")
        assert (layout.opening < 0.02) == (task.goal == "open")
    assert goals == {"open", "closed"}


@pytest.mark.parametrize("family", FAMILIES)
def test_distractors_keep_clear_and_take_other_colours(family):
    for seed in range(40):
        task, layout = drawn(family, seed)
        extra = draw_distractors(task, layout, 3, random_stream(seed, "distractors"))
        assert len(extra) == 3
        assert not {task.target, task.goal} & extra.keys()
        for one in extra.values():
            assert all(np.hypot(one.x - x, one.y - y) > radius for x, y, radius in layout.keep_clear)
            assert all(one is two or np.hypot(one.x - two.x, one.y - two.y) > 0.07 for two in extra.values())


def test_every_state_vector_has_a_name_for_each_dimension():
    vectors = Tabletop().reset(1, "drawer").vectors()
    assert {name: len(value) for name, value in vectors.items()} == {k: len(v) for k, v in STATE_NAMES.items()}
    assert all(value.dtype == np.float32 for value in vectors.values())


def test_absent_objects_are_zeros():
    table = Tabletop()
    state = table.reset(1, "pick", distractors=0)
    vectors = state.vectors()
    present = np.repeat(vectors["object_present"], 3).astype(bool)
    assert vectors["object_present"].sum() == 1
    np.testing.assert_allclose(vectors["object_position"][present], state.objects[table.task.target].position)
    assert (vectors["object_position"][~present] == 0).all()
