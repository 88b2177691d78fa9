"""A training that several processes share is that of one process, but for the order in which gradients are added."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from rslwm.compute import ComputeConfig, generator, seeded
from rslwm.data.corpus import Corpus
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.store import TensorStore
from rslwm.latents.base import EncoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.ranks import together
from rslwm.train.world_model import train_world_model
from rslwm.types import Progress, silent

STEPS = 24
CONFIG = WorldModelConfig(
    dit=DiTConfig(width=24, depth=2, heads=2, patch=2, max_frames=3),
    optim=OptimConfig(
        steps=STEPS, batch_size=4, accumulate=4, lr=1e-2, warmup=7, ema=0.9, checkpoint_every=4, log_every=1
    ),
)
COMPUTE = ComputeConfig(device="cpu", dtype="float32")
TOLERANCE = 1e-5
"""Of float32, relative to the largest value."""
Job = tuple[str, int, bool]
"""A training's folder, the step at which it is interrupted, whether it is sharded."""


def train(corpus: Corpus, latents: TensorStore, folder: Path, stop: int = 0, shard: bool = False) -> dict[str, Tensor]:
    """The weights that it ends with."""

    def interrupt(done: int, total: int, message: str) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with seeded(0, "space"):
        space = LatentSpace(SpaceConfig("small-vae", 32, encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4)))
    model = WorldModel(space, corpus.action_spec, CONFIG, generator(0, "weights"))
    compute = replace(COMPUTE, shard=shard, checkpoint_activations=shard)
    train_world_model(model, corpus, latents, 0, folder, compute, interrupt)
    return model.dit.state_dict()


def train_all(where: Sequence[Any], root: Path, jobs: Sequence[Job], report: Progress) -> None:
    """In each of the processes: one training after the other, which all of them go through."""
    torch.set_num_threads(1)
    dataset, frames, config, store = where
    corpus, latents = Corpus(EpisodeDataset(dataset), TensorStore(frames), config), TensorStore(store)
    port = int(os.environ["MASTER_PORT"])
    for number, (name, stop, shard) in enumerate(jobs):
        os.environ["MASTER_PORT"] = str(port + number)
        try:
            weights = train(corpus, latents, root / name, stop, shard)
            torch.save(weights, root / f"{name}.pt")
        except KeyboardInterrupt:
            torch.distributed.destroy_process_group()
        except SystemExit:
            if os.environ["RANK"] == "0":
                raise


@pytest.fixture(scope="module")
def trained(corpus: Corpus, point_latents: TensorStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings of one process (one), of two (two, sharded), and one that began in two, went on in one, and ended in
    two that shared its weights (mixed)."""
    root = tmp_path_factory.mktemp("distributed")
    where = (corpus.dataset.root, corpus.frames.root, corpus.config, point_latents.root)
    torch.save(train(corpus, point_latents, root / "one"), root / "one.pt")
    together(partial(train_all, where, root, [("two", 0, False), ("sharded", 0, True), ("mixed", 9, False)]), 2, silent)
    with pytest.raises(KeyboardInterrupt):
        train(corpus, point_latents, root / "mixed", 18)
    together(partial(train_all, where, root, [("mixed", 0, True)]), 2, silent)
    return root


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= TOLERANCE * value.abs().max().clamp_min(0.1), name


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "sharded", "mixed"])
def test_losses_weights_and_checkpoints_are_those_of_one_process(name: str, trained: Path) -> None:
    ours, theirs = log(trained / name), log(trained / "one")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [*range(1, STEPS + 1)]
    for figure in ("loss", "gradient_norm"):
        found, expected = ([line[figure] for line in lines] for lines in (ours, theirs))
        assert found == pytest.approx(expected, rel=TOLERANCE)
    weights, expected_weights = (torch.load(trained / f"{which}.pt", weights_only=True) for which in (name, "one"))
    close(weights, expected_weights)
    state = f"training_state-{STEPS:08d}.safetensors"
    close(load_file(trained / name / state), load_file(trained / "one" / state))
    assert {p.name for p in (trained / name).iterdir()} == {p.name for p in (trained / "one").iterdir()}


def facts(folder: Path) -> dict[str, Any]:
    with safe_open(folder / f"training_state-{STEPS:08d}.safetensors", "pt") as file:
        return json.loads(file.metadata()["facts"])


@pytest.mark.slow
def test_the_flops_are_those_of_all_processes(trained: Path) -> None:
    flops = {facts(trained / name)["flops_per_step"] for name in ("one", "two", "sharded", "mixed")}
    assert len(flops) == 1
    assert flops.pop() > 0
