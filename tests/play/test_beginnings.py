"""Where drives begin."""

from pathlib import Path

import numpy as np
import pytest
import torch

from grounds import DATA, TABLE
from rslwm.data.corpus import Corpus
from rslwm.latents.views import to_bytes
from rslwm.play.beginnings import Beginning, Recordings, Simulated
from rslwm.serialisation import ConfigError
from rslwm.sim.record import restore

BEGINNINGS = Simulated(TABLE, 2)
SKIP = DATA.frame_skip


def test_distractors_leave_the_task_as_it_is() -> None:
    few, many = (BEGINNINGS.begin(Beginning("pick", 3, distractors=count)) for count in (0, 2))
    assert few.asked == many.asked
    assert many.snapshot is not None
    assert few.snapshot is not None
    assert len(many.snapshot.objects) == len(few.snapshot.objects) + 2


def test_words_are_told_and_the_task_s_own_are_kept() -> None:
    begun = BEGINNINGS.begin(Beginning("pick", 3, instruction="do as you like"))
    assert begun.instruction == "do as you like"
    assert begun.asked != begun.instruction
    assert begun.snapshot is not None
    assert begun.snapshot.task.instruction == begun.instruction


def test_an_episode_begins_where_the_recording_was() -> None:
    begun = BEGINNINGS.begin(Beginning(episode=2, frame=3))
    shown = TABLE.reset((restore(TABLE.config, 2, 3 * SKIP),)).frames
    assert np.array_equal(begun.frames[-1], to_bytes(shown)[0, -1].numpy())
    assert begun.actions.shape == (1, 7)


def test_recorded_actions_lead_to_the_recorded_end() -> None:
    """Nearly: the simulator does what was composed of two actions in equal parts."""
    begun = BEGINNINGS.begin(Beginning(episode=1, frame=1))
    TABLE.go((begun.snapshot,))
    for action in begun.course:
        seen = TABLE.step(torch.from_numpy(action)[None])
    reached = to_bytes(seen.frames)[0, -1].numpy()
    off, moved = (np.abs(begun.end.astype(int) - frame).mean() for frame in (reached, begun.frames[-1]))
    assert off < moved / 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"family": "juggle"}, "juggle"),
        ({"distractors": 15}, "distractors"),
        ({"episode": 0, "frame": 999}, "frame is 999"),
    ],
)
def test_a_beginning_that_isn_t_there_is_named(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BEGINNINGS.begin(Beginning(**wrong))  # type: ignore[arg-type]


def test_a_seed_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="seed is -1"):
        Beginning(seed=-1)


def test_recordings_begin_with_their_own_frames_and_actions(corpus: Corpus, tmp_path: Path) -> None:
    offered = Recordings(corpus, corpus.test, 2)
    begun = offered.begin(Beginning(episode=1, frame=3))
    episode = corpus.test[1]
    clip = corpus.clips(corpus.frames, 2).batch(np.array([[episode, 2 * corpus.config.frame_skip]]))
    assert np.array_equal(begun.frames, clip.x[0].numpy())
    assert np.allclose(begun.actions, clip.actions[0].numpy())
    assert begun.course is not None
    assert len(begun.course) > 1


def test_an_episode_too_many_is_named(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="episode is 99"):
        Recordings(corpus, corpus.test, 2).begin(Beginning(episode=99))
