import copy
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from rslwm.compute import ComputeConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.types import DataError
from tiny import TINY, draw, same, tiny_world_model

SAMPLING = SamplingConfig(steps=2)


@pytest.fixture
def model(plugin: Path) -> WorldModel:
    return tiny_world_model(plugin)


def clip(frames: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return draw(2, frames, 4, 4, 3), draw(2, frames - 1, 7, seed=2).tanh()


def roll(model: WorldModel, seed: int = 0) -> torch.Tensor:
    latents, actions = clip(6)
    return model.rollout(latents[:, :2], actions, SAMPLING, torch.Generator().manual_seed(seed))


def test_loss_is_a_function_of_the_generator(model: WorldModel) -> None:
    first, again, other = (model.loss(*clip(), torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_few_steps_learn_a_constant_world(model: WorldModel) -> None:
    model.dit.initialise(torch.Generator().manual_seed(0))
    latents = torch.ones(8, 4, 4, 4, 3) * torch.tensor([1.0, -1.0, 0.5])
    actions = torch.zeros(8, 3, 7)
    optimiser = torch.optim.Adam(model.dit.parameters(), 3e-3)
    g = torch.Generator().manual_seed(0)
    for _ in range(150):
        optimiser.zero_grad()
        model.loss(latents, actions, g).backward()
        optimiser.step()
    future = model.rollout(latents[:, :2], torch.zeros(8, 5, 7), SamplingConfig(steps=4), g)
    assert (future - latents[:, :1]).square().mean() < 0.05


@pytest.mark.parametrize("full_window", [False, True])
@pytest.mark.parametrize("objective", ["flow", "ddpm"])
def test_rollout_equals_stepping(plugin: Path, objective: str, full_window: bool) -> None:
    model, sampling = tiny_world_model(plugin, objective=objective), replace(SAMPLING, full_window=full_window)
    (latents, actions), noise = clip(6), draw(2, 4, 4, 4, 3, seed=3)
    whole = model.rollout(latents[:, :2], actions, sampling, noise=noise)
    state = model.start(latents[:, :2], actions[:, :1], full_window)
    for f in range(4):
        state, frame = model.step(state, actions[:, 1 + f], sampling, noise=noise[:, f])
        assert torch.equal(frame, whole[:, f])


def test_a_full_window_that_has_slid_equals_one_started_there(model: WorldModel) -> None:
    """As in training, the window's first frame has no action, though the rollout knows which one led there."""
    (latents, actions), noise = clip(6), draw(2, 4, 4, 4, 3, seed=3)
    full, kept = replace(SAMPLING, full_window=True), SAMPLING
    future = model.rollout(latents[:, :2], actions, full, noise=noise)
    again = model.rollout(future[:, :3], actions[:, 2:], full, noise=noise[:, 3:])
    assert same(again[:, 0], future[:, 3])
    assert not same(model.rollout(latents[:, :2], actions, kept, noise=noise)[:, 3], future[:, 3], 1e-3)


@pytest.mark.parametrize("alignment", ["incoming", "outgoing"])
def test_unrolled_candidates_equal_separate_rollouts(plugin: Path, alignment: str) -> None:
    model = tiny_world_model(plugin, alignment=alignment)
    context, past = clip(3)
    actions, noise = draw(2, 3, 4, 7, seed=3).tanh(), draw(2, 3, 4, 4, 4, 3, seed=4)
    forked = model.start(context, past).fork(3)
    futures = model.unroll(forked, actions.flatten(0, 1), SAMPLING, noise=noise.flatten(0, 1)).unflatten(0, (2, 3))
    for k in range(3):
        alone = model.rollout(context, torch.cat([past, actions[:, k]], 1), SAMPLING, noise=noise[:, k])
        assert same(futures[:, k], alone)


def test_rollout_is_a_function_of_the_generator(model: WorldModel) -> None:
    assert torch.equal(roll(model, 0), roll(model, 0))
    assert not torch.equal(roll(model, 0), roll(model, 1))


def test_another_transformer_can_be_put_in(model: WorldModel) -> None:
    """As the training loop does with its moving average."""
    before = roll(model)
    model.dit = copy.deepcopy(model.dit)
    model.dit.final_layer.linear.bias.data += 1
    assert not torch.allclose(roll(model), before, atol=0.1)


@pytest.mark.parametrize("alignment", ["incoming", "outgoing"])
@pytest.mark.parametrize("max_frames", [2, 4])
def test_single_frame_context(plugin: Path, alignment: str, max_frames: int) -> None:
    model = tiny_world_model(plugin, replace(TINY, max_frames=max_frames), alignment=alignment)
    latents, actions = clip(5)
    future = model.rollout(latents[:, :1], actions, SAMPLING, torch.Generator())
    assert future.shape == (2, 4, 4, 4, 3)
    assert future.isfinite().all()


def test_inference_in_bfloat16_stays_close(model: WorldModel) -> None:
    exact = roll(model)
    rounded = roll(model.for_inference(ComputeConfig(device="cpu", dtype="bfloat16")))
    assert model.dit.dtype == torch.bfloat16
    assert (rounded - exact).norm() / exact.norm() < 0.05


def test_encoding_in_parts_changes_nothing(model: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rslwm.model.world_model.PIXELS_AT_ONCE", 2 * 2 * 32 * 32)
    frames = torch.rand(5, 2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.encode(frames), model.space.encode(frames))


def test_the_space_is_not_trained(model: WorldModel) -> None:
    assert not any(p.requires_grad for p in model.space.parameters())


def test_wrong_shapes_are_named(model: WorldModel) -> None:
    latents, actions = clip()
    with pytest.raises(ValueError, match=r"expected \(2, 3, 7\)"):
        model.loss(latents, actions[:, :2], torch.Generator())
    with pytest.raises(ValueError, match="patch-mean needs"):
        model.loss(latents[..., :2], actions, torch.Generator())


def test_a_loaded_model_is_the_saved_one(model: WorldModel, tmp_path: Path) -> None:
    model.save(tmp_path / "a" / "checkpoint")
    loaded = WorldModel.load(str(tmp_path / "a" / "checkpoint"))
    assert torch.equal(roll(loaded), roll(model))
    assert (loaded.config, loaded.action_spec, loaded.fingerprint) == (model.config, model.action_spec, "abc")
    assert loaded.space.spec == model.space.spec


def test_saving_replaces_a_checkpoint_and_nothing_else(model: WorldModel, tmp_path: Path) -> None:
    target = tmp_path / "runs" / "checkpoint"
    model.save(target)
    model.fingerprint = "new"
    model.save(target)
    assert WorldModel.load(target).fingerprint == "new"
    assert [p.name for p in target.parent.iterdir()] == ["checkpoint"]
    with pytest.raises(DataError, match="is not a checkpoint"):
        model.save(tmp_path)


def test_a_failed_save_leaves_the_old_checkpoint(
    model: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "runs" / "checkpoint"
    model.save(target)

    def full_disk(folder: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(model.space, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        model.save(target)
    assert torch.equal(roll(WorldModel.load(target)), roll(model))
    assert [p.name for p in target.parent.iterdir()] == ["checkpoint"]


def test_a_failed_exchange_puts_the_old_checkpoint_back(
    model: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "runs" / "checkpoint", Path.rename
    model.save(target)

    def refuse(path: Path, to: Path) -> Path:
        if ".new-" in path.name:
            raise OSError("stale file handle")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="stale"):
        model.save(target)
    assert torch.equal(roll(WorldModel.load(target)), roll(model))
    assert [p.name for p in target.parent.iterdir()] == ["checkpoint"]


@pytest.fixture
def checkpoint(model: WorldModel, tmp_path: Path) -> Path:
    model.save(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_its_files_can_be_read_by_whoever_can_read_its_folder(checkpoint: Path) -> None:
    plain = checkpoint / "plain.txt"
    plain.touch()
    files = {path for path in checkpoint.rglob("*") if path.is_file()}
    assert {path.stat().st_mode for path in files} == {plain.stat().st_mode}


@pytest.mark.parametrize(
    ("name", "size"), [("x_proj.bias", None), ("x_proj.bias", 5), ("intruder", 1)], ids=["missing", "resized", "extra"]
)
def test_load_names_a_weight_that_does_not_fit(checkpoint: Path, name: str, size: int | None) -> None:
    file = checkpoint / "model.safetensors"
    others = {k: v for k, v in load_file(file).items() if k != name}
    save_file(others | ({name: torch.zeros(size)} if size else {}), file)
    with pytest.raises(DataError, match=rf"model\.safetensors.*'{re.escape(name)}'"):
        WorldModel.load(checkpoint)


def test_load_names_a_truncated_file(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model\.safetensors"):
        WorldModel.load(checkpoint)


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "space"])
def test_load_names_a_missing_file(checkpoint: Path, name: str) -> None:
    (checkpoint / name).rename(checkpoint.parent / "elsewhere")
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        WorldModel.load(checkpoint)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [("format", 99, "format 99"), ("latent_space", {"name": "other"}, "trained on"), ("world_model", {"x": 1}, "'x'")],
)
def test_load_names_a_changed_field(checkpoint: Path, field: str, value: object, named: str) -> None:
    file = checkpoint / "config.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), field: value}))
    with pytest.raises(ValueError, match=rf"(?s)config\.yaml.*{named}"):
        WorldModel.load(checkpoint)
