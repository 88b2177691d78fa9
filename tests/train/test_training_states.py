"""Training states: the newest few, written atomically, and the newest that can be read is resumed from."""

import errno
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from rslwm.train.checkpoint import Training, TrainingStates
from rslwm.types import DataError

DAMAGES = [lambda data: data[:-40], lambda data: b"\xff" * 64 + data[64:], lambda data: b""]


def training(value: float = 0.0) -> Training:
    module = nn.Linear(2, 2)
    nn.init.constant_(module.weight, value)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.0)
    module(torch.ones(2)).sum().backward()
    optimizer.step()
    return Training(module, optimizer, None)


def save(folder: Path, keep: int, *steps: int) -> TrainingStates:
    """States whose weights are their step."""
    states = TrainingStates(folder, keep)
    for step in steps:
        states.save(step, training(float(step)), {"seconds": step})
    return states


def damage(path: Path, how: Callable[[bytes], bytes] = DAMAGES[0]) -> None:
    path.write_bytes(how(path.read_bytes()))


@pytest.mark.parametrize(("keep", "left"), [(1, [40]), (3, [20, 30, 40]), (9, [10, 20, 30, 40])])
def test_the_newest_ones_are_kept_and_nothing_else(keep: int, left: list[int], tmp_path: Path) -> None:
    save(tmp_path, keep, 10, 20, 30, 40)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"training_state-{s:08d}.safetensors" for s in left]


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    before, after = training(3.0), training(0.0)
    states = TrainingStates(tmp_path, 1)
    states.save(7, before, {"seconds": 1.5, "terms": {"mse": 0.1}})
    assert states.resume(after) == (7, {"seconds": 1.5, "terms": {"mse": 0.1}})
    assert torch.equal(after.module.weight, before.module.weight)
    moments = [t.optimizer.state_dict()["state"][0]["exp_avg"] for t in (before, after)]
    assert torch.equal(*moments)


def test_there_is_nothing_to_resume_from_at_first(tmp_path: Path) -> None:
    assert TrainingStates(tmp_path, 1).resume(training()) is None


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_newest_state_falls_back_to_the_one_before(
    how: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states, resumed = save(tmp_path, 3, 10, 20, 30), training()
    damage(states.paths()[30], how)
    with caplog.at_level(logging.WARNING):
        assert states.resume(resumed) == (20, {"seconds": 20})
    assert resumed.module.weight[0, 0] == 20
    (message,) = caplog.messages
    assert re.search(r"not a readable training state: .*training_state-00000030\.safetensors", message)
    assert "resuming from step 20 instead" in message


@pytest.mark.parametrize("how", DAMAGES)
def test_with_no_readable_state_the_way_out_is_named(how: Callable[[bytes], bytes], tmp_path: Path) -> None:
    states = save(tmp_path, 1, 10)
    damage(states.paths()[10], how)
    with pytest.raises(DataError, match=r"not a readable.*-00000010\.safetensors.*delete it to start over"):
        states.resume(training())


def test_a_damaged_state_never_takes_a_good_ones_place(tmp_path: Path) -> None:
    states = save(tmp_path, 2, 20, 30, 40)
    damage(states.paths()[40])
    states.save(35, training(), {})  # the training went on from 30, with checkpoints at other steps
    assert list(states.paths()) == [35, 30]


def test_a_kill_while_saving_keeps_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = save(tmp_path, 1, 10)

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            states.save(20, training(), {})
    assert states.resume(training()) == (10, {"seconds": 10})
    states.save(20, training(), {})
    assert [p.name for p in tmp_path.iterdir()] == ["training_state-00000020.safetensors"]


def _rust(*_: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def _fsync(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("where", "full"), [("rslwm.train.checkpoint.write_tensors", _rust), ("os.fsync", _fsync)])
def test_a_full_disk_leaves_the_states_before_and_says_so(
    where: str, full: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = save(tmp_path, 2, 10, 20)
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        with pytest.raises(OSError, match=r"the disk is full.*free space and resume.*00000030") as raised:
            states.save(30, training(), {})
    assert raised.value.errno == errno.ENOSPC
    assert states.resume(training()) == (20, {"seconds": 20})
    assert len(list(tmp_path.iterdir())) == 2


def test_another_failure_of_writing_is_not_called_a_full_disk(tmp_path: Path) -> None:
    states = TrainingStates(tmp_path / "nowhere", 1)
    with pytest.raises((SafetensorError, OSError), match="No such file"):
        states.save(1, training(), {})
