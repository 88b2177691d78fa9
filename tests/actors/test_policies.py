"""Policies: what they look at, how they are trained and kept, and what their cards say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rslwm.actors import policies
from rslwm.actors.base import Observation
from rslwm.actors.policies import PolicyConfig
from rslwm.actors.sight import SightConfig
from rslwm.actors.words import LENGTH, VOCABULARY, numbered
from rslwm.compute import generator
from rslwm.optim import OptimConfig
from rslwm.registry import UnknownName
from rslwm.serialisation import ConfigError
from rslwm.types import DataError

BRIEF = OptimConfig(steps=3, batch_size=8, warmup=1, ema=0.9)
CONFIGS = {
    "points": PolicyConfig("cloning", SightConfig("points", 16, 1), episodes=6, optim=BRIEF),
    "before": PolicyConfig("cloning", SightConfig("points", 16, 2), episodes=6, optim=BRIEF),
    "patches": PolicyConfig("cloning", SightConfig("patches", 16, 1), episodes=6, optim=BRIEF),
    "perceiving": PolicyConfig("perceiving", SightConfig("points", 16, 1), episodes=6, optim=BRIEF),
}
SAID = ("push the red cube to the blue square", "open the drawer")


class OnlySeen:
    """An observation of which anything but frames and instructions can't be asked."""

    def __init__(self, frames: torch.Tensor) -> None:
        self.frames, self.instructions = frames, SAID


def frames(count: int, number: int = 0) -> torch.Tensor:
    return torch.rand((2, count, 64, 64, 3), generator=generator(number, "frames"))


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few lessons to a file: it is the file's size that the tests would wait for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rslwm.actors.lessons.FILE", 8)
        folder = tmp_path_factory.mktemp("lessons")
        policies.Lessons.recorded(PolicyConfig().lessons, range(8), folder)
        yield folder


@pytest.fixture(scope="module", params=CONFIGS)
def learnt(request, lessons: Path, tmp_path_factory: pytest.TempPathFactory):
    config = CONFIGS[request.param]
    return config, policies.learn(config, tmp_path_factory.mktemp("training"), lessons)[0]


def test_a_policy_looks_at_nothing_but_frames_and_instructions(learnt) -> None:
    _, policy = learnt
    seen = OnlySeen(frames(2))
    policy.start(seen)
    action = policy.act(seen)
    assert action.shape == (2, 7)
    assert (action.abs() <= 1).all()
    more = {"truth": {"gripper_position": torch.ones(2, 2, 3)}, "success": torch.ones(2, 2, dtype=torch.bool)}
    whole = Observation(torch.ones(2, 1, 7), torch.ones(2, 2, 4, 4, 8), seen.frames, **more, instructions=SAID)
    policy.start(whole)
    assert torch.equal(policy.act(whole), action)


def test_frames_and_instructions_make_a_difference(learnt) -> None:
    _, policy = learnt
    policy.start(OnlySeen(frames(1)))
    count = policy.network.config.frames
    one, another = (frames(count, number).permute(0, 1, 4, 2, 3) for number in (0, 1))
    out, _ = policy.network(one, policy._said)
    other, _ = policy.network(another, policy._said)
    told, _ = policy.network(one, policy._said.flip(0))
    assert not torch.allclose(out, other)
    assert not torch.allclose(out, told)


def test_the_frame_before_is_remembered_and_forgotten_at_the_start(lessons: Path, tmp_path: Path) -> None:
    policy, _ = policies.learn(CONFIGS["before"], tmp_path, lessons)
    first, second = frames(1, 1), frames(1, 2)
    policy.start(OnlySeen(first))
    policy.act(OnlySeen(first))
    remembered = policy.act(OnlySeen(second))
    policy.start(OnlySeen(first))
    assert torch.equal(policy.act(OnlySeen(torch.cat([first, second], 1))), remembered)
    policy.start(OnlySeen(second))
    assert not torch.equal(policy.act(OnlySeen(second)), remembered)


def test_a_saved_policy_is_the_same(learnt, tmp_path: Path) -> None:
    config, policy = learnt
    policies.save(policy, "own", config, {"success": {"all": {"rate": 0.5}}}, tmp_path)
    loaded = policies.load("own", tmp_path)
    for one in (policy, loaded):
        one.start(OnlySeen(frames(1)))
    assert torch.equal(loaded.act(OnlySeen(frames(1))), policy.act(OnlySeen(frames(1))))
    for name, weight in policy.network.state_dict().items():
        assert torch.equal(weight, loaded.network.state_dict()[name])
    assert policies.names(tmp_path) == ["own"]


def test_the_same_training_gives_the_same_weights_and_another_seed_others(
    learnt, lessons: Path, tmp_path: Path
) -> None:
    config, policy = learnt
    again, _ = policies.learn(config, tmp_path / "again", lessons)
    other, _ = policies.learn(replace(config, seed=1), tmp_path / "other", lessons)
    pairs = zip(policy.network.parameters(), again.network.parameters(), other.network.parameters(), strict=True)
    equal = [(torch.equal(one, two), torch.equal(one, three)) for one, two, three in pairs]
    assert all(same for same, _ in equal)
    assert not all(same for _, same in equal)


def test_lessons_are_a_part_of_what_is_recorded(lessons: Path) -> None:
    config = PolicyConfig().lessons
    whole = policies.Lessons.recorded(config, range(8), lessons)
    part = policies.Lessons.recorded(config, range(2, 5), lessons)
    starts = torch.cat([torch.where(whole.before == torch.arange(len(whole)))[0], torch.tensor([len(whole)])])
    assert len(starts) == 9
    rows = slice(int(starts[2]), int(starts[5]))
    assert torch.equal(part.frames, whole.frames[rows])
    assert torch.equal(part.words, whole.words[rows])
    assert torch.equal(part.before + starts[2], whole.before[rows])


def test_words_have_numbers_and_an_order() -> None:
    red, green = numbered(["stack the red cube on the green cube", "stack the green cube on the red cube"])
    assert not torch.equal(red, green)
    assert torch.equal(red.sort().values, green.sort().values)
    unknown = numbered(["serve dish", " ".join(["red"] * 40)])
    assert (unknown[0, :2] > len(VOCABULARY)).all()
    assert not unknown[0, 2:].any()
    assert unknown.shape == (2, LENGTH)


def test_what_is_missing_is_said(learnt, tmp_path: Path) -> None:
    _, policy = learnt
    with pytest.raises(DataError, match="no instructions"):
        policy.start(Observation(torch.zeros(1, 0, 7), frames=torch.zeros(1, 1, 64, 64, 3)))
    with pytest.raises(DataError, match="shows none"):
        policy.act(Observation(torch.zeros(1, 0, 7), instructions=SAID))
    with pytest.raises(UnknownName, match="no policy called 'nobody'"):
        policies.load("nobody", tmp_path)
    with pytest.raises(ConfigError, match="1 or 2 frames"):
        policies.KINDS["cloning"](SightConfig(frames=3))
