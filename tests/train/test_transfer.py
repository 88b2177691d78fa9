"""A transformer that starts from another checkpoint's weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rslwm.compute import ComputeConfig, generator, seeded
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.latents.base import EncoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.published.ddpm import DDPMConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.train.world_model import start_from, train_world_model
from rslwm.types import DataError

CONFIG = WorldModelConfig(
    dit=DiTConfig(width=32, depth=1, heads=2, patch=2, max_frames=3),
    optim=OptimConfig(steps=60, batch_size=16, lr=1e-2, warmup=2, ema=0.9),
)


def build(corpus: Corpus, config: WorldModelConfig = CONFIG, channels: int = 4, weights: int = 0) -> WorldModel:
    encoder = EncoderConfig(width=16, depth=1, heads=2, channels=channels)
    with seeded(0, "space"):
        space = LatentSpace(SpaceConfig("small-vae", 32, views=config.dit.views, encoder=encoder))
    return WorldModel(space, corpus.action_spec, config, generator(weights, "weights"))


def doubled(latents: TensorStore, root: Path) -> TensorStore:
    """Two views of the point, which look the same."""
    items = ((key, torch.cat([latents[key]] * 2, 2)) for key in latents.keys)
    return TensorStore.write(root, items, {"of": "the point twice"})


@pytest.fixture
def checkpoint(corpus: Corpus, tmp_path: Path) -> Path:
    """Untrained, but of weights that no other model here draws."""
    build(corpus, weights=1).save(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_other_views_window_and_temporal_attention_take_the_weights_as_they_are(
    corpus: Corpus, checkpoint: Path, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    dit = replace(CONFIG.dit, views=2, view_order="interleaved", max_frames=4, temporal="joint")
    settings = {"optim": replace(CONFIG.optim, steps=0), "action_dropout": 0.0, "ddpm": DDPMConfig(timesteps=50)}
    model = build(corpus, replace(CONFIG, dit=dit, **settings))
    line = start_from(checkpoint, model)
    assert line == f"weights of {checkpoint}, trained on small-vae (1 view(s), the same actions)"
    store = doubled(point_latents, tmp_path / "store")
    train_world_model(model, corpus, store, 0, tmp_path / "train", compute, lambda *_: None)
    weights = WorldModel.load(checkpoint).dit.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.dit.state_dict().items())


def test_two_views_start_better_from_what_one_view_taught(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    single = build(corpus)
    train_world_model(single, corpus, point_latents, 0, tmp_path / "single", compute, lambda *_: None)
    single.save(tmp_path / "checkpoint")
    twin = replace(CONFIG, dit=replace(CONFIG.dit, views=2))
    scratch, transferred = build(corpus, twin), build(corpus, twin)
    start_from(tmp_path / "checkpoint", transferred)
    clips = corpus.clips(doubled(point_latents, tmp_path / "store"), 3)
    batch = clips.batch(clips.windows(corpus.test))

    def loss(model: WorldModel) -> float:
        with torch.no_grad():
            return float(model.loss(batch.x.float(), batch.actions, generator(0, "noise")))

    assert loss(transferred) < 0.7 * loss(scratch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dit": replace(CONFIG.dit, heads=4)}, r"config\.yaml: world_model\.dit\.heads is 2, .* has 4; set"),
        ({"dit": replace(CONFIG.dit, depth=2)}, r"world_model\.dit\.depth is 1, .* has 2"),
        ({"objective": "ddpm"}, r"world_model\.objective is flow, .* has ddpm"),
        ({"alignment": "outgoing"}, r"world_model\.alignment is incoming, .* has outgoing"),
    ],
)
def test_a_field_that_weights_depend_on_must_agree(
    change: dict, message: str, corpus: Corpus, checkpoint: Path
) -> None:
    with pytest.raises(DataError, match=message):
        start_from(checkpoint, build(corpus, replace(CONFIG, **change)))


def test_another_shape_is_refused_with_file_and_tensor(corpus: Corpus, checkpoint: Path) -> None:
    with pytest.raises(DataError, match=r"model\.safetensors: tensor 'x_proj\.weight' is \(32, 4, 2, 2\), expected"):
        start_from(checkpoint, build(corpus, channels=8))
