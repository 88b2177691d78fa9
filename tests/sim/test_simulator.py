import itertools

import numpy as np
import pytest

from rslwm.serialisation import ConfigError
from rslwm.sim.scene import CAMERAS, HALF, SHAPES
from rslwm.sim.tabletop import HOLD, SPEC, Tabletop, random_stream
from rslwm.sim.tasks import FAMILIES, WORKSPACE

STILL = np.array([0.0, 0, 0, 0, 0, 0, 1])


@pytest.fixture(scope="module")
def table():
    simulator = Tabletop()
    yield simulator
    simulator.close()


def actions(count: int, seed: int = 0) -> np.ndarray:
    return random_stream(seed, "expert").uniform(SPEC.low, SPEC.high, (count, SPEC.dims))


def play(table: Tabletop, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every state vector and the last frames of all cameras."""
    states = [np.concatenate(list(table.step(action).vectors().values())) for action in steps]
    return np.stack(states), np.stack([table.render(camera) for camera in CAMERAS])


def corners(x: float, y: float) -> np.ndarray:
    """(8, 3) corners of a cube that stands at (x, y) with its faces along the axes, as narrow as it can look."""
    return np.array([[x + a * HALF, y + b * HALF, HALF + c * HALF] for a, b, c in itertools.product((-1, 1), repeat=3)])


def project(table: Tabletop, points: np.ndarray, size: int) -> np.ndarray:
    """(N, 3) metres to (N, 2) pixels of the front camera."""
    camera = table.data.camera("front")
    focal = size / 2 / np.tan(np.radians(table.model.camera("front").fovy[0]) / 2)
    local = (points - camera.xpos) @ camera.xmat.reshape(3, 3)
    return size / 2 + focal * local[:, :2] * [1, -1] / -local[:, 2:]


@pytest.mark.parametrize("family", FAMILIES)
def test_distractors_move_neither_robot_nor_task(table, family):
    alone = table.reset(7, family, distractors=0)
    task, layout = table.task, table.layout
    for count in (1, 3):
        crowded = table.reset(7, family, distractors=count)
        assert (table.task, table.layout) == (task, layout)
        assert len(crowded.objects) == len(alone.objects) + count
        np.testing.assert_allclose(crowded.gripper_position, alone.gripper_position, atol=1e-9)
        # One solver for all objects: what settles beside them shifts them by micrometres.
        np.testing.assert_allclose(crowded.goal_position, alone.goal_position, atol=5e-5)
        for colour, pose in alone.objects.items():
            np.testing.assert_allclose(crowded.objects[colour].position, pose.position, atol=5e-5)


def test_appearance_changes_pixels_and_nothing_else(table):
    steps = actions(4)
    table.reset(5, "pick")
    plain_states, plain_frames = play(table, steps)
    table.reset(5, "pick", appearance=1.0)
    varied_states, varied_frames = play(table, steps)
    np.testing.assert_array_equal(varied_states, plain_states)
    assert np.abs(varied_frames.astype(int) - plain_frames).mean() > 3


@pytest.mark.parametrize("family", FAMILIES)
def test_restore_is_exact_in_states_and_pixels(family):
    table = Tabletop(dynamics_noise=0.3)
    table.reset(11, family, appearance=0.5)
    play(table, actions(10, seed=1))
    snapshot = table.save()
    expected = play(table, actions(10, seed=2))
    others = Tabletop(dynamics_noise=0.3)
    table.reset(12, "push", distractors=0)
    for simulator in (table, others):
        simulator.load(snapshot)
        assert simulator.steps == 10
        for got, wanted in zip(play(simulator, actions(10, seed=2)), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_a_snapshot_can_be_played_on_in_many_ways(table):
    table.reset(2, "push")
    snapshot = table.save()
    first, _ = play(table, actions(6, seed=1))
    table.load(snapshot)
    other, _ = play(table, actions(6, seed=2))
    table.load(snapshot)
    again, _ = play(table, actions(6, seed=1))
    np.testing.assert_array_equal(again, first)
    assert not np.array_equal(other, first)


def test_reset_leaves_nothing_of_the_last_episode(table):
    fresh = Tabletop()
    fresh.reset(21, "stack")
    expected = play(fresh, actions(5))
    table.reset(22, "drawer", appearance=1.0)
    play(table, actions(20, seed=3))
    table.reset(21, "stack")
    for got, wanted in zip(play(table, actions(5)), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_dynamics_noise_spreads_futures_of_the_same_actions():
    table = Tabletop(dynamics_noise=0.5)
    table.reset(0, "pick")
    snapshot = table.save()
    ends = []
    for seed in range(3):
        table.load(snapshot)
        table._dynamics = random_stream(seed, "dynamics")
        ends.append(play(table, np.tile(STILL, (5, 1)))[0][-1, :3])
    assert np.std(ends, axis=0).max() > 0.005


def test_deltas_move_the_gripper_by_what_they_say(table):
    start = table.reset(0, "pick", distractors=0)
    move = np.array([0.0, 0.02, 0.01, 0, 0, 0, 1])
    for _ in range(3):
        state = table.step(move)
    state = table.step(STILL)
    np.testing.assert_allclose(state.gripper_position - start.gripper_position, 3 * move[:3], atol=3e-3)


def test_deltas_are_clipped_to_the_bounds(table):
    table.reset(0, "pick")
    snapshot = table.save()
    wild = np.array([0.0, 5.0, 0, 0, 0, 9.0, 1])
    got, _ = play(table, wild[None])
    table.load(snapshot)
    wanted, _ = play(table, np.array([[0.0, SPEC.high[1], 0, 0, 0, SPEC.high[5], 1]]))
    np.testing.assert_array_equal(got, wanted)


def test_the_fingers_open_and_close(table):
    table.reset(0, "pick")
    for _ in range(3):
        closed = table.step(np.zeros(7)).gripper_gap
    for _ in range(3):
        opened = table.step(STILL).gripper_gap
    assert closed < 0.004
    assert opened > 0.070


def lower(table: Tabletop, place: np.ndarray, gripper: float, until: str) -> np.ndarray:
    """Bring the hand over a place and down until it touches the thing; the gripper's position at that moment."""
    state = table.state()
    for _ in range(40):
        offset = place - state.target_position
        if np.abs(offset[:2]).max() > 0.002:
            offset[2] = 0
        state = table.step(np.array([*np.clip(offset, -0.01, 0.01), 0, 0, 0, gripper]))
        if until in state.touched:
            break
    return state.gripper_position


def test_the_fingers_collide(table):
    state = table.reset(0, "push", distractors=0)
    colour = table.task.target
    tips = lower(table, state.objects[colour].position, gripper=0.0, until=colour)[2] - 0.010
    assert tips == pytest.approx(2 * HALF, abs=0.004)
    assert table.state().vectors()["contact"] == 1


def test_the_palm_collides(table):
    table.reset(0, "stack", distractors=0)
    colour, base = table.task.target, table.state().objects[table.task.goal].position
    table.data.joint(colour).qpos[:] = [*base[:2], 3 * HALF, 1, 0, 0, 0]
    palm = lower(table, base, gripper=1.0, until=colour)[2] + 0.061
    assert table._touching()["palm"] == {colour}
    assert palm == pytest.approx(4 * HALF, abs=0.006)


@pytest.mark.parametrize(("x", "y"), list(itertools.product(*WORKSPACE)))
def test_a_cube_is_nine_pixels_wide_and_in_the_picture(table, x, y):
    pixels = project(table, corners(x, y), size=64)
    assert np.ptp(pixels[:, 0]) >= 9
    assert pixels.min() >= 0
    assert pixels.max() <= 64


def test_the_target_is_drawn_where_it_is(table):
    state = table.reset(4, "pick", distractors=0)
    before = table.render().astype(int)
    colours = table.model.geom_rgba.copy()
    for shape in SHAPES:
        table.model.geom(f"{table.task.target}_{shape}").rgba[:3] = 0
    rows, columns = np.nonzero(np.abs(table.render() - before).sum(-1) > 30)
    table.model.geom_rgba[:] = colours
    assert 30 < len(rows) < 400  # the object, and only the object
    centre = project(table, state.objects[table.task.target].position[None], size=64)[0]
    np.testing.assert_allclose([columns.mean(), rows.mean()], centre, atol=1.5)


def test_success_needs_the_rule_to_hold(table):
    table.reset(9, "push", distractors=0)
    joint = table.data.joint(table.task.target)
    start = joint.qpos.copy()
    joint.qpos[:2] = table.layout.zone
    for held in range(1, HOLD + 1):
        table.step(np.zeros(7))
        assert table.success == (held == HOLD)
    joint.qpos[:] = start
    table.step(np.zeros(7))
    assert not table.success


def test_a_bad_action_is_refused(table):
    with pytest.raises(ValueError, match="7 finite numbers"):
        table.step(np.zeros(6))
    with pytest.raises(ValueError, match="7 finite numbers"):
        table.step(np.full(7, np.nan))


def test_unknown_names_are_answered_with_the_known_ones(table):
    with pytest.raises(ConfigError, match="known: front, side, wrist"):
        table.render("top")
    with pytest.raises(ConfigError, match="known: push, pick, stack, drawer"):
        table.reset(0, "juggle")
    with pytest.raises(ConfigError, match=r"sim\.distractors"):
        table.reset(0, "push", distractors=6)
