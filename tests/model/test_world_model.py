import copy
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from rslwm.config import DiTConfig, FlowConfig, WorldModelConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.world_model import WorldModel
from rslwm.types import DataError, end_effector_spec

CONFIG = WorldModelConfig(dit=DiTConfig(width=32, depth=1, heads=2, patch=2, max_frames=4), flow=FlowConfig())
ENCODER = """
import torch.nn.functional as F
from rslwm.latents.base import Encoder
from rslwm.types import LatentSpec

class Pooled(Encoder):
    def __init__(self, config, image_size):
        super().__init__(config, image_size)
        self.spec = LatentSpec("pooled", "reconstruction", (image_size // 4, image_size // 4), 3)

    def encode(self, frames):
        pooled = F.avg_pool2d(frames.flatten(0, 1).permute(0, 3, 1, 2), 4)
        return pooled.permute(0, 2, 3, 1).unflatten(0, frames.shape[:2])
"""


@pytest.fixture
def model(tmp_path: Path) -> WorldModel:
    plugin = tmp_path / "pooled.py"
    plugin.write_text(ENCODER)
    space = LatentSpace(SpaceConfig(reference=f"{plugin}:Pooled", image_size=16))
    g = torch.Generator().manual_seed(0)
    model = WorldModel(space, end_effector_spec(0.05, 0.25), CONFIG, g, fingerprint="abc")
    for parameter in model.dit.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=g)
    return model.eval()


def clip(frames: int = 4, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, frames, 4, 4, 3, generator=g), torch.rand(2, frames - 1, 7, generator=g) * 2 - 1


def roll(model: WorldModel, seed: int = 0) -> torch.Tensor:
    latents, actions = clip(6)
    return model.rollout(latents[:, :2], actions, 2, torch.Generator().manual_seed(seed))


def test_frames_are_conditioned_on_the_action_that_led_to_them(model: WorldModel) -> None:
    """Moving the last action moves the last generated frame and no other."""
    latents, actions = clip(6)
    noise = torch.zeros(2, 4, 4, 4, 3)
    before = model.rollout(latents[:, :2], actions, 2, noise=noise)
    actions[:, -1] += 1
    after = model.rollout(latents[:, :2], actions, 2, noise=noise)
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3] - after[:, 3]).abs().max() > 1e-3


def test_training_and_sampling_show_the_network_the_same_actions(
    model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    extend = model.dit.extend
    monkeypatch.setattr(model.dit, "extend", lambda x, t, a, *past: seen.append(a) or extend(x, t, a, *past))
    latents, actions = clip(4)
    model.loss(latents, actions, torch.Generator().manual_seed(0))
    trained = seen.pop()
    model.rollout(latents[:, :3], actions, 1, torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(seen[:2], 1), trained)
    assert not trained[:, 0].any()


def test_a_window_that_has_slid_equals_one_started_there(model: WorldModel) -> None:
    """As in training, the window's first frame has no action, though the rollout knows which one led there."""
    latents, actions = clip(6)
    noise = torch.randn(2, 4, 4, 4, 3, generator=torch.Generator().manual_seed(2))
    future = model.rollout(latents[:, :2], actions, 2, noise=noise)
    again = model.rollout(future[:, :3], actions[:, 2:], 2, noise=noise[:, 3:])
    assert torch.allclose(again[:, 0], future[:, 3], atol=1e-3)
    assert not torch.allclose(again[:, 0], future[:, 2], atol=1e-1)


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
    future = model.rollout(latents[:, :2], torch.zeros(8, 5, 7), 4, g)
    assert (future - latents[:, :1]).square().mean() < 0.05


def test_rollout_equals_stepping(model: WorldModel) -> None:
    latents, actions = clip(6)
    noise = torch.randn(2, 4, 4, 4, 3, generator=torch.Generator().manual_seed(2))
    whole = model.rollout(latents[:, :2], actions, 2, noise=noise)
    state = model.start(latents[:, :2], actions[:, :1])
    for f in range(4):
        state, frame = model.step(state, actions[:, 1 + f], 2, noise=noise[:, f])
        assert torch.equal(frame, whole[:, f])


def test_rollout_is_a_function_of_the_generator(model: WorldModel) -> None:
    assert torch.equal(roll(model, 0), roll(model, 0))
    assert not torch.equal(roll(model, 0), roll(model, 1))


def test_another_transformer_can_be_put_in(model: WorldModel) -> None:
    """As the training loop does with its moving average."""
    before = roll(model)
    model.dit = copy.deepcopy(model.dit)
    model.dit.final_layer.linear.bias.data += 1
    assert not torch.allclose(roll(model), before, atol=0.1)


def test_noise_and_generator_exclude_each_other(model: WorldModel) -> None:
    latents, actions = clip(3)
    with pytest.raises(ValueError, match="either a generator or the noise"):
        model.rollout(latents[:, :2], actions, 2)


def test_single_frame_context(model: WorldModel) -> None:
    latents, actions = clip(3)
    assert model.rollout(latents[:, :1], actions, 1, torch.Generator()).shape == (2, 2, 4, 4, 3)


def test_encoding_in_parts_changes_nothing(model: WorldModel) -> None:
    frames = torch.rand(5, 2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.encode(frames, clips=2), model.space.encode(frames))


def test_the_space_is_not_trained(model: WorldModel) -> None:
    assert not any(p.requires_grad for p in model.space.parameters())


def test_wrong_shapes_are_named(model: WorldModel) -> None:
    latents, actions = clip()
    with pytest.raises(ValueError, match=r"expected \(2, 3, 7\)"):
        model.loss(latents, actions[:, :2], torch.Generator())
    with pytest.raises(ValueError, match="pooled needs"):
        model.loss(latents[..., :2], actions, torch.Generator())


def test_a_loaded_model_is_the_saved_one(model: WorldModel, tmp_path: Path) -> None:
    model.save(tmp_path / "a" / "checkpoint")
    loaded = WorldModel.load(str(tmp_path / "a" / "checkpoint"))
    assert torch.equal(roll(loaded), roll(model))
    assert (loaded.config, loaded.action_spec, loaded.fingerprint) == (CONFIG, model.action_spec, "abc")
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


def test_load_names_a_missing_weight(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k != "x_proj.bias"}, file)
    with pytest.raises(DataError, match=r"model\.safetensors.*'x_proj\.bias'"):
        WorldModel.load(checkpoint)


def test_load_names_an_extra_weight(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    save_file({**load_file(file), "intruder": torch.zeros(1)}, file)
    with pytest.raises(DataError, match=r"model\.safetensors.*'intruder'"):
        WorldModel.load(checkpoint)


def test_load_names_a_weight_of_another_shape(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    save_file({**load_file(file), "x_proj.bias": torch.zeros(5)}, file)
    with pytest.raises(DataError, match=r"model\.safetensors.*'x_proj\.bias'"):
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
