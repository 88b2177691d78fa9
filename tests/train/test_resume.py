"""An interrupted training ends exactly where the uninterrupted one does, wherever and however often it was stopped."""

import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rslwm.compute import ComputeConfig, generator, seeded
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.store import TensorStore
from rslwm.latents.base import EncoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.train.checkpoint import TrainingStates
from rslwm.train.loop import Progress
from rslwm.train.world_model import train_world_model

STEPS = 30
CONFIG = WorldModelConfig(
    dit=DiTConfig(width=24, depth=1, heads=2, patch=2, max_frames=3),
    optim=OptimConfig(
        steps=STEPS, batch_size=4, accumulate=2, lr=1e-2, final_lr=0.1, warmup=7, ema=0.9, checkpoint_every=4, keep=2,
        log_every=3,
    ),
)  # fmt: skip
TIMES = ("seconds", "steps_per_second", "samples_per_second", "mfu")
COMPUTE = ComputeConfig(device="cpu", dtype="float32")


def train(
    corpus: Corpus,
    latents: TensorStore,
    folder: Path,
    progress: Progress = lambda *_: None,
    config: WorldModelConfig = CONFIG,
) -> WorldModel:
    """From a new process's point of view: everything but the folder is made anew."""
    with seeded(0, "space"):
        encoder = EncoderConfig(width=16, depth=1, heads=2, channels=4)
        space = LatentSpace(SpaceConfig("small-vae", 32, encoder=encoder))
    model = WorldModel(space, corpus.action_spec, config, generator(0, "weights"))
    train_world_model(model, corpus, latents, 0, folder, COMPUTE, progress)
    return model


def outcome(folder: Path) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Weights, moving average, optimiser and step of the last state; the log without what clocks say."""
    log = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return (
        load_file(folder / f"training_state-{STEPS:08d}.safetensors"),
        [{k: v for k, v in line.items() if k not in TIMES} for line in log],
    )


def assert_same(folder: Path, whole: Path) -> None:
    (state, log), (expected, expected_log) = outcome(folder), outcome(whole)
    assert state.keys() == expected.keys()
    assert {name.split("/")[0] for name in state} == {"module", "average", "optimizer"}
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
    assert log == expected_log
    assert [line["step"] for line in log] == list(range(3, STEPS + 1, 3))


@pytest.fixture(scope="module")
def whole(corpus: Corpus, point_latents: TensorStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(corpus, point_latents, folder)
    return folder


class Interrupter:
    """Raises KeyboardInterrupt at given moments, of all attempts: batches that are drawn, steps that are reported."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gaps: Iterator[int]) -> None:
        self.gaps, self.left, self.count = gaps, next(gaps), 0
        loss = WorldModel.loss

        def counted(model: WorldModel, *arguments: Tensor) -> Tensor:
            self.moment()
            return loss(model, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(WorldModel, "loss", counted)

    def moment(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.left = next(self.gaps)
            self.count += 1
            raise KeyboardInterrupt

    def progress(self, done: int, total: int, message: str) -> None:
        self.moment()


@pytest.mark.slow
def test_twenty_interruptions_change_no_bit(
    corpus: Corpus, point_latents: TensorStore, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has three moments, two batches and a report; a checkpoint comes every twelfth."""
    draw = random.Random(0)
    interrupter = Interrupter(monkeypatch, (draw.randint(3, 22) if n < 20 else 10**9 for n in range(21)))
    steps = set()
    while interrupter.count < 20 or not steps or max(steps) < STEPS:
        try:
            train(corpus, point_latents, tmp_path, lambda *a: (steps.add(a[0]), interrupter.progress(*a))[1])
        except KeyboardInterrupt:
            continue
    assert interrupter.count == 20
    assert_same(tmp_path, whole)


def interrupted(step: int, corpus: Corpus, latents: TensorStore, folder: Path) -> None:
    """Train until Ctrl-C at this step."""

    def interrupt(done: int, total: int, message: str) -> None:
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(corpus, latents, folder, interrupt)


@pytest.mark.parametrize("step", random.Random(1).sample(range(1, STEPS), 20))
def test_interrupted_once_at_any_step(
    step: int, corpus: Corpus, point_latents: TensorStore, whole: Path, tmp_path: Path
) -> None:
    interrupted(step, corpus, point_latents, tmp_path)
    train(corpus, point_latents, tmp_path)
    assert_same(tmp_path, whole)


def _train_slowly(dataset: Path, frames: Path, data: DataConfig, latents: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    train(
        Corpus(EpisodeDataset(dataset), TensorStore(frames), data),
        TensorStore(latents),
        folder,
        lambda *_: time.sleep(0.02),
    )


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_bits(
    corpus: Corpus, point_latents: TensorStore, whole: Path, tmp_path: Path
) -> None:
    """Other processes, and no chance to tidy up."""
    where = (corpus.dataset.root, corpus.frames.root, corpus.config, point_latents.root, tmp_path)
    for reached in (4, 20):
        process = multiprocessing.get_context("spawn").Process(target=_train_slowly, args=where)
        process.start()
        deadline = time.monotonic() + 120
        while max(TrainingStates(tmp_path, 2).paths(), default=0) < reached:
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
        process.join()
    assert not (tmp_path / f"training_state-{STEPS:08d}.safetensors").exists()
    train(corpus, point_latents, tmp_path)
    assert_same(tmp_path, whole)


@pytest.mark.parametrize("step", [5, 13, 29])
def test_it_goes_on_under_other_operational_knobs_to_the_same_bits(
    step: int, corpus: Corpus, point_latents: TensorStore, whole: Path, tmp_path: Path
) -> None:
    interrupted(step, corpus, point_latents, tmp_path)
    knobs = {"checkpoint_every": 7, "keep": 1, "log_every": 5, "monitor_every": 10}
    train(corpus, point_latents, tmp_path, config=replace(CONFIG, optim=replace(CONFIG.optim, **knobs)))
    (state, _), (expected, _) = outcome(tmp_path), outcome(whole)
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
