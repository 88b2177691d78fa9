import multiprocessing
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.sim.record import record, record_episode
from rslwm.sim.tasks import STATE_NAMES
from rslwm.types import Episode

SMALL = SimConfig(episodes=6, image_size=32, cameras=("front", "wrist"), max_steps=8, noise=(0.0, 0.6))


def same(one: Episode, two: Episode) -> None:
    assert (one.id, one.instruction, one.success, one.info) == (two.id, two.instruction, two.success, two.info)
    np.testing.assert_array_equal(one.actions, two.actions)
    for mine, theirs in ((one.frames, two.frames), (one.states, two.states)):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(value, theirs[name])


def test_an_episode_is_a_function_of_its_index():
    first = record_episode(SMALL, 5)
    record_episode(SMALL, 2)
    same(record_episode(SMALL, 5), first)


def test_shapes_and_types():
    episode = record_episode(SMALL, 1)
    assert episode.actions.shape == (8, 7)
    assert episode.actions.dtype == np.float32
    for camera in SMALL.cameras:
        assert episode.frames[camera].shape == (8, 32, 32, 3)
        assert episode.frames[camera].dtype == np.uint8
    assert {name: value.shape for name, value in episode.states.items()} == {
        name: (8, len(dims)) for name, dims in STATE_NAMES.items()
    }


def test_families_take_turns_and_then_noise_levels():
    episodes = list(record(replace(SMALL, cameras=(), max_steps=1), processes=1))
    assert [e.id for e in episodes] == [
        "push-000000", "pick-000001", "stack-000002", "drawer-000003", "push-000004", "pick-000005"
    ]  # fmt: skip
    assert [e.info["noise"] for e in episodes] == [0.0] * 4 + [0.6] * 2


def test_the_number_of_processes_changes_nothing_but_the_time():
    parallel = list(record(SMALL, processes=2))
    assert len(parallel) == SMALL.episodes
    for one, two in zip(parallel, record(SMALL, processes=1), strict=True):
        same(one, two)


def test_a_reader_that_leaves_early_leaves_no_process_behind():
    episodes = record(replace(SMALL, episodes=10_000), processes=2)
    next(episodes)
    assert multiprocessing.active_children()
    episodes.close()
    assert not multiprocessing.active_children()


KILLED = """
import os, signal
from multiprocessing import active_children
from rslwm.sim.config import SimConfig
from rslwm.sim.record import record

if __name__ == "__main__":
    episodes = record(SimConfig(episodes=10_000, cameras=(), max_steps=1), processes=2)
    next(episodes)
    print(*[child.pid for child in active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_recording_leaves_no_process_behind(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    # The workers hold its output open: this returns when the last of them has ended.
    done = subprocess.run([sys.executable, tmp_path / "killed.py"], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(done.stdout.split()) == 2


def test_noise_stays_within_the_bounds():
    actions = record_episode(replace(SMALL, cameras=(), noise=(1.0,), max_steps=30), 0).actions
    assert np.abs(actions[:, :3]).max() == pytest.approx(0.03)
    assert np.abs(actions[:, 3:6]).max() <= 0.25 + 1e-6
    assert set(actions[:, 6]) <= {0.0, 1.0}


def test_an_empty_list_of_families_is_refused():
    with pytest.raises(ConfigError, match=r"sim\.families"):
        record_episode(replace(SMALL, families=()), 0)


@pytest.mark.parametrize("steps", [{"max_steps": 0}, {"min_steps": -1}])
def test_an_episode_without_steps_is_refused(steps):
    with pytest.raises(ConfigError, match=r"sim\.min_steps and sim\.max_steps"):
        record_episode(replace(SMALL, **steps), 0)
