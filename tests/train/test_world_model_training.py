"""A world model is trained on the same clips whatever the space, and ends with the averaged weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import ComputeConfig, generator, seeded
from rslwm.data.clips import Clips
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.latents.base import EncoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiT, DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.train.world_model import train_world_model

CONFIG = WorldModelConfig(
    dit=DiTConfig(width=24, depth=1, heads=2, patch=2, max_frames=3),
    optim=OptimConfig(steps=5, batch_size=8, lr=1e-2, warmup=1, ema=0.9, checkpoint_every=2, log_every=1),
)


def quiet(done: int, total: int, message: str) -> None:
    pass


def build(corpus: Corpus) -> WorldModel:
    encoder = EncoderConfig(width=16, depth=1, heads=2, channels=4)
    with seeded(0, "space"):
        space = LatentSpace(SpaceConfig("small-vae", 32, encoder=encoder))
    return WorldModel(space, corpus.action_spec, CONFIG, generator(0, "weights"))


def test_it_ends_with_the_averaged_weights(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    model = build(corpus)
    train_world_model(model, corpus, point_latents, 0, tmp_path, compute, quiet)
    state = load_file(tmp_path / "training_state-00000005.safetensors")
    for name, value in model.dit.state_dict().items():
        assert torch.equal(value, state[f"average/{name}"])
    assert not torch.equal(model.dit.x_proj.weight, state["module/x_proj.weight"])


def test_an_interrupted_training_ends_with_the_same_bits(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int, message: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    whole, parts = build(corpus), build(corpus)
    train_world_model(whole, corpus, point_latents, 0, tmp_path / "whole", compute, quiet)
    with pytest.raises(KeyboardInterrupt):
        train_world_model(parts, corpus, point_latents, 0, tmp_path / "parts", compute, interrupt)
    parts = build(corpus)
    train_world_model(parts, corpus, point_latents, 0, tmp_path / "parts", compute, quiet)
    assert all(torch.equal(v, whole.dit.state_dict()[k]) for k, v in parts.dit.state_dict().items())


def test_every_space_sees_the_same_clips_and_noise_levels(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The windows drawn do not depend on the space: another store under the same seed gives the same."""
    drawn: list[Tensor] = []
    sample = Clips.sample

    def spy(self: Clips, windows, n, generator):  # type: ignore[no-untyped-def]
        batch = sample(self, windows, n, generator)
        if n == CONFIG.optim.batch_size:  # and not the one clip whose FLOPs are counted
            drawn.append(torch.from_numpy(batch.windows))
        return batch

    monkeypatch.setattr(Clips, "sample", spy)
    items = [(key, -2 * point_latents[key].float()) for key in point_latents.keys]
    other = TensorStore.write(tmp_path / "other", items, {})
    for number, store in enumerate((point_latents, other)):
        train_world_model(build(corpus), corpus, store, 0, tmp_path / str(number), compute, quiet)
    first, second = torch.stack(drawn).chunk(2)
    assert len(first) == CONFIG.optim.steps
    assert torch.equal(first, second)
    assert set(first[..., 0].flatten().tolist()) <= set(corpus.train)


def test_another_seed_draws_other_clips(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    models = [build(corpus) for _ in range(2)]
    for seed, model in enumerate(models):
        train_world_model(model, corpus, point_latents, seed, tmp_path / str(seed), compute, quiet)
    assert not torch.equal(models[0].dit.x_proj.weight, models[1].dit.x_proj.weight)


def test_training_learns_where_the_point_goes(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    model = build(corpus)
    model.config = replace(CONFIG, optim=replace(CONFIG.optim, steps=60, batch_size=32, lr=5e-3))
    clips = corpus.clips(point_latents, 3)
    batch = clips.batch(clips.windows(corpus.test))

    def held_out() -> float:
        with torch.no_grad():
            return float(model.loss(batch.x.float(), batch.actions, generator(0, "held out")))

    before = held_out()
    train_world_model(model, corpus, point_latents, 0, tmp_path, compute, quiet)
    assert held_out() < 0.8 * before


# -------------------------------------------------------------------------------------------------- compute's switches


def deeper(corpus: Corpus) -> WorldModel:
    """With output weights that are not zero, or no gradient would pass through the blocks."""
    model = build(corpus)
    for name, parameter in model.dit.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator(0, name))
    return model


def gradients(model: WorldModel, corpus: Corpus, latents: TensorStore) -> dict[str, Tensor]:
    clips = corpus.clips(latents, 3)
    batch = clips.batch(clips.windows(corpus.train)[:4])
    model.loss(batch.x.float(), batch.actions, generator(0, "noise")).backward()
    return {name: parameter.grad for name, parameter in model.dit.named_parameters() if parameter.grad is not None}


def test_checkpointed_activations_give_the_same_gradients(corpus: Corpus, point_latents: TensorStore) -> None:
    plain, checkpointed = deeper(corpus), deeper(corpus)
    checkpointed.dit.checkpoint_activations = True
    expected = gradients(plain, corpus, point_latents)
    found = gradients(checkpointed, corpus, point_latents)
    assert found.keys() == expected.keys() == dict(plain.dit.named_parameters()).keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-6)


def test_recomputed_activations_are_no_flops_of_the_model(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    with FlopCounterMode(display=False) as counter:
        model = build(corpus)
        clips = corpus.clips(point_latents, 3)
        batch = clips.batch(clips.windows(corpus.train)[: CONFIG.optim.batch_size])
        model.loss(batch.x.float(), batch.actions, generator(0, "noise")).backward()
    flops = []
    for recompute in (False, True):
        switched = replace(compute, checkpoint_activations=recompute)
        folder = tmp_path / str(recompute)
        model = build(corpus)
        flops.append(train_world_model(model, corpus, point_latents, 0, folder, switched, quiet).flops_per_step)
        assert model.dit.checkpoint_activations == recompute
    assert flops == [counter.get_total_flops()] * 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_models_loss_is_the_eager_ones_also_without_gradients(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    clips = corpus.clips(point_latents, 3)
    batch = clips.batch(clips.windows(corpus.test)[:4])
    losses = []
    for compiled in (False, True):
        model = deeper(corpus)
        model.config = replace(CONFIG, optim=replace(CONFIG.optim, steps=0))
        train_world_model(model, corpus, point_latents, 0, tmp_path, replace(compute, compile=compiled), quiet)
        with torch.no_grad():
            losses.append(model.loss(batch.x.float(), batch.actions, generator(0, "noise")))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)


def test_a_compiled_training_leaves_the_same_files(
    corpus: Corpus,
    point_latents: TensorStore,
    compute: ComputeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Captured and differentiated as always, but not translated to C++, which takes a minute."""
    compiling: list[DiT] = []

    def capture(dit: DiT, **_: object) -> None:
        compiling.append(dit)
        nn.Module.compile(dit, backend="aot_eager")

    monkeypatch.setattr(DiT, "compile", capture)
    logs, states, frames = [], [], []
    clips = corpus.clips(point_latents, 3)
    batch = clips.batch(clips.windows(corpus.test)[:2])
    noise = torch.randn(2, 1, 4, 4, 4, generator=generator(0, "first frame"))
    for compiled in (False, True):
        model, folder = build(corpus), tmp_path / str(compiled)
        train_world_model(model, corpus, point_latents, 0, folder, replace(compute, compile=compiled), quiet)
        assert compiling == [model.dit] * compiled
        logs.append([json.loads(line)["loss"] for line in (folder / "train.jsonl").read_text().splitlines()])
        states.append(load_file(folder / "training_state-00000005.safetensors"))
        model.save(folder / "checkpoint")
        for trained in (model.eval(), WorldModel.load(folder / "checkpoint")):
            frames.append(trained.rollout(batch.x[:, :2].float(), batch.actions, SamplingConfig(steps=2), noise=noise))
    assert len(logs[0]) == CONFIG.optim.steps
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)
    assert states[0].keys() == states[1].keys()
    for other in frames[1:]:
        torch.testing.assert_close(other, frames[0], rtol=1e-3, atol=1e-3)
