"""A world model from published files computes what the published code computes, and refuses files that don't fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from published_vectors import published_rollout, relative_error
from published_vectors import stored as golden
from rslwm.compute import generator
from rslwm.latents.base import EncoderConfig
from rslwm.latents.published.autoencoder_kl import SD3VAE
from rslwm.latents.published.base import Options
from rslwm.latents.published.hub_transformers import WebDINO
from rslwm.latents.space import TwinDecoder
from rslwm.model.flow import FlowMatching
from rslwm.model.published.files import PublishedAdapter, PublishedDiT
from rslwm.model.published.semantic_wm import ACTIONS, Facts, import_world_model
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.serialisation import ConfigError
from rslwm.types import DataError
from tiny_checkpoints import sd3, webdino

WIDE = Facts("flow", 3, "factorised", 1, "reconstruction:elsewhere", 1, 1, (4, 6), 16, 6)
PATCHED = replace(WIDE, heads=2)
ADAPTED = replace(PATCHED, encoder="semantic:features", adapter_heads=4, decoder_heads=4, grid=(4, 4))


def imported(folder: Path, dit: str | dict[str, Tensor], adapter: bool, facts: Facts) -> WorldModel:
    torch.save({"ema": golden(dit)[0] if isinstance(dit, str) else dit}, folder / "DiT.pt")
    parts = {"adapter": golden("svae")[0], "pixel_decoder": golden("pixel_decoder")[0]}
    torch.save(parts, folder / "adapter.pt")
    svae = PublishedAdapter.read(folder / "adapter.pt") if adapter else None
    import_world_model(PublishedDiT.read(folder / "DiT.pt"), svae, facts).save(folder / "checkpoint")
    return WorldModel.load(folder / "checkpoint")


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("dit_wide_p1", WIDE),
        ("dit_plain_p2", PATCHED),
        ("dit_joint", replace(WIDE, heads=2, temporal="joint", max_frames=4)),
        ("dit_multiview", replace(WIDE, heads=2, views=3, grid=(4, 4), max_frames=4)),
    ],
)
def test_velocities_are_the_published_ones(name: str, facts: Facts, tmp_path: Path) -> None:
    model, (_, tensors) = imported(tmp_path, name, False, facts), golden(name)
    y = model.dit(tensors["x"], tensors["t"], tensors["actions"])
    assert relative_error(y, tensors["y"]) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("name", "facts"), [("dit_wide_p1", WIDE), ("dit_plain_p2", PATCHED)])
def test_rollouts_are_the_published_ones(name: str, facts: Facts, tmp_path: Path) -> None:
    model, (_, tensors) = imported(tmp_path, name, False, facts), golden(name)
    future = sampled(model, tensors["rollout_context"], tensors["rollout_actions"], tensors["rollout_noise"])
    assert relative_error(future, tensors["rollout"][:, 2:]) < 1e-4


def sampled(model: WorldModel, context: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
    """Frames after a context of two, every frame with its own ten inputs, at the golden vectors' shift."""
    objective = FlowMatching(model.config.flow, 2.0)
    return published_rollout(model.dit, objective, context, actions, noise[:, :, 0].transpose(0, 1))


@torch.no_grad()
def test_an_action_conditions_the_frame_that_it_is_taken_from(tmp_path: Path) -> None:
    model, (_, tensors) = imported(tmp_path, "dit_wide_p1", False, WIDE), golden("dit_wide_p1")
    context, noise = tensors["rollout_context"], tensors["rollout_noise"]
    actions = tensors["rollout_actions"][:, :-1, :7]  # the last frame's own is not known to a rollout
    model.objective = FlowMatching(model.config.flow, 2.0)
    future = model.rollout(context, actions, SamplingConfig(full_window=True), noise=noise[:, :, 0].transpose(0, 1))
    assert relative_error(future, sampled(model, context, F.pad(actions, (0, 3, 0, 1)), noise)) < 1e-5


@torch.no_grad()
def test_features_are_compressed_generated_and_decoded(tmp_path: Path) -> None:
    model = imported(tmp_path, "dit_plain_p2", True, ADAPTED)
    (_, svae), (_, pixels) = golden("svae"), golden("pixel_decoder")
    latents = model.space.compress(svae["z"])
    torch.testing.assert_close(latents, svae["encoded"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.decode(pixels["z"]), pixels["rgb"], rtol=0, atol=1e-5)
    actions = torch.zeros(2, 4, 7)
    future = model.rollout(latents, actions, SamplingConfig(steps=2), generator(0, "noise"))
    assert model.decode(future).shape == (2, 2, 16, 16, 3)
    assert (model.space.spec.name, model.space.spec.channels) == ("features+8", 8)


@torch.no_grad()
def test_native_features_are_decoded_through_the_adapter(tmp_path: Path) -> None:
    weights, _ = golden("dit_wide_p1")
    width, wide = weights["x_proj.bias"].numel(), weights["s_projector.bias"].numel()
    weights["x_proj.weight"] = torch.zeros(width, 48, 1, 1)
    weights["head_final_layer.linear.weight"] = torch.zeros(48, wide)
    weights["head_final_layer.linear.bias"] = torch.zeros(48)
    model = imported(tmp_path, weights, True, replace(ADAPTED, heads=3))
    features = golden("svae")[1]["z"]
    assert torch.equal(model.space.compress(features), features)
    assert isinstance(model.space.pixels, TwinDecoder)
    expected = model.space.pixels.decoder(golden("svae")[1]["encoded"])
    torch.testing.assert_close(model.decode(features), expected, rtol=0, atol=1e-5)


@pytest.fixture
def three_views(tmp_path: Path) -> WorldModel:
    """The golden transformer of three views, its inputs and outputs cut to the adapter's eight channels."""
    weights, _ = golden("dit_multiview")
    for name in ("x_proj.weight", "final_layer.linear.weight", "final_layer.linear.bias"):
        axis = 1 if name == "x_proj.weight" else 0
        weights[name] = torch.cat([weights[name], weights[name]], axis).narrow(axis, 0, 8).clone()
    return imported(tmp_path, weights, True, replace(ADAPTED, views=3))


@torch.no_grad()
def test_every_view_is_compressed_and_decoded_alone(three_views: WorldModel) -> None:
    (_, svae), (_, pixels) = golden("svae"), golden("pixel_decoder")
    views = [svae["z"], svae["z"].flip(0), 2 * svae["z"]]
    latents = three_views.space.compress(torch.cat(views, -2))
    assert latents.shape[2:] == (*three_views.space.spec.grid, 8) == (4, 12, 8)
    torch.testing.assert_close(latents[..., :4, :], svae["encoded"], rtol=0, atol=1e-5)
    torch.testing.assert_close(latents[..., 4:8, :], svae["encoded"].flip(0), rtol=0, atol=1e-5)
    frames = three_views.decode(torch.cat([0 * pixels["z"], pixels["z"], pixels["z"].flip(1)], -2))
    torch.testing.assert_close(frames[..., 16:32, :], pixels["rgb"], rtol=0, atol=1e-5)
    torch.testing.assert_close(frames[..., 32:, :], pixels["rgb"].flip(1), rtol=0, atol=1e-5)
    future = three_views.rollout(latents, torch.zeros(2, 4, 7), SamplingConfig(steps=2), generator(0, "noise"))
    assert three_views.decode(future).shape == (2, 2, 16, 48, 3)


def test_several_views_are_read_as_published_and_cut_from_as_many_cameras(three_views: WorldModel) -> None:
    assert (three_views.config.dit.views, three_views.config.dit.view_order) == (3, "interleaved")
    assert three_views.data is not None
    assert three_views.data.camera == "image_0,image_1,image_2"


@torch.no_grad()
def test_an_encoder_of_a_users_own_sees_one_view_at_a_time(plugin: Path, tmp_path: Path) -> None:
    facts = replace(ADAPTED, heads=2, views=3, encoder=f"{plugin}:PatchMean", image_size=32)
    weights, _ = golden("dit_multiview")
    weights["x_proj.weight"] = weights["x_proj.weight"][:, :3].clone()
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        weights[name] = weights[name][:3].clone()
    torch.save({"ema": weights}, tmp_path / "DiT.pt")
    model = import_world_model(PublishedDiT.read(tmp_path / "DiT.pt"), None, facts)
    frames = torch.rand(1, 2, 32, 96, 3, generator=generator(0, "frames"))
    expected = model.space.encoder.encode(frames[..., 32:64, :])
    torch.testing.assert_close(model.encode(frames)[..., 4:8, :], expected)


def on_channels(channels: int) -> dict[str, Tensor]:
    """Weights of a transformer of golden sizes on so many channels."""
    weights, _ = golden("dit_multiview")
    weights["x_proj.weight"] = torch.zeros(weights["x_proj.weight"].shape[0], channels, 1, 1)
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        weights[name] = torch.zeros(channels, *weights[name].shape[1:])
    return weights


@torch.no_grad()
def test_a_published_encoder_takes_part_with_its_choices(tmp_path: Path) -> None:
    place = webdino.write(tmp_path / "weights").parent
    choices = {"antialias": "no"}
    facts = replace(WIDE, heads=2, encoder="web-dino", image_size=64, options=choices, weights=str(place))
    model = imported(tmp_path, on_channels(webdino.CHANNELS), False, facts)
    frames = torch.rand(1, 2, 64, 64, 3, generator=generator(0, "frames"))
    alone = WebDINO(EncoderConfig(weights=str(place), input_size=64), 64, Options(antialias=False))
    torch.testing.assert_close(model.encode(frames), alone.encode(frames))


@torch.no_grad()
def test_a_published_autoencoder_decodes_with_its_own_decoder(tmp_path: Path) -> None:
    place = sd3.write(tmp_path / "weights").parent
    facts = replace(WIDE, heads=2, encoder="sd3-vae", image_size=64, weights=str(place))
    model = imported(tmp_path, on_channels(sd3.CHANNELS), False, facts)
    frames = torch.rand(1, 2, 64, 64, 3, generator=generator(0, "frames"))
    alone = SD3VAE(EncoderConfig(weights=str(place), input_size=64), 64)
    torch.testing.assert_close(model.decode(model.encode(frames)), alone.decode(alone.encode(frames)))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("DiT", lambda w: w.pop("blocks.1.t_block.ffwd.w3.bias"), r"DiT\.pt: tensor 'blocks\.1\.t_block.*' is missing"),
        ("DiT", lambda w: w.update(stowaway=torch.zeros(1)), r"DiT\.pt: unexpected tensor 'stowaway'"),
        (
            "DiT",
            lambda w: w.update({"blocks.0.s_block.ffwd.w12.weight": torch.zeros(256, 64)}),
            r"DiT\.pt: tensor 'blocks\.0\.s_block\.ffwd\.w12\.weight' is \(256, 64\), expected \(340, 64\)",
        ),
        ("adapter", lambda w: w.pop("dec_norm.bias"), r"adapter\.pt: tensor 'dec_norm\.bias' is missing"),
        (
            "adapter",
            lambda w: w.update({"latent_enc_norm.weight": torch.zeros(8)}),
            r"adapter\.pt: unexpected tensor 'latent_enc_norm\.weight'",
        ),
        ("pixel_decoder", lambda w: w.pop("up_levels.0.attn.q.bias"), r"'up_levels\.0\.attn\.q\.bias' is missing"),
    ],
)
def test_tensors_of_another_architecture_are_refused(
    name: str, damage: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    parts = {
        "DiT": golden("dit_plain_p2")[0],
        "adapter": golden("svae")[0],
        "pixel_decoder": golden("pixel_decoder")[0],
    }
    damage(parts[name])
    torch.save(parts.pop("DiT"), tmp_path / "DiT.pt")
    torch.save(parts, tmp_path / "adapter.pt")
    dit, svae = PublishedDiT.read(tmp_path / "DiT.pt"), PublishedAdapter.read(tmp_path / "adapter.pt")
    with pytest.raises(DataError, match=message):
        import_world_model(dit, svae, ADAPTED)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (replace(ADAPTED, heads=5), r"dit\.width 64 / dit\.heads 5"),
        (replace(ADAPTED, adapter_heads=5), r"adapter\.heads 5 does not divide the 48 channels"),
        (replace(ADAPTED, decoder_heads=5), r"decoder\.heads 5 does not divide the 16 channels"),
        (replace(ADAPTED, image_size=256), r"make 16 x 16 px of a 4x4 grid, not 256 x 256"),
        (replace(ADAPTED, encoder="small-dino"), r"encoder small-dino is none with weights of its own"),
    ],
)
def test_facts_that_do_not_fit_are_refused(facts: Facts, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        imported(tmp_path, "dit_plain_p2", True, facts)


def test_a_count_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="adapter_heads is 0; there is at least 1"):
        replace(ADAPTED, adapter_heads=0)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    message = r"an adapter from 48 to 8 channels.*on 12 channels.*don't belong together"
    with pytest.raises(DataError, match=message):
        imported(tmp_path, "dit_wide_p1", True, replace(ADAPTED, heads=3))


def test_an_encoder_of_a_users_own_file_must_make_the_right_channels(plugin: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"PatchMean makes 3 channels, but .*DiT\.pt holds a 48x2 on 12 channels"):
        imported(tmp_path, "dit_wide_p1", False, replace(WIDE, encoder=f"{plugin}:PatchMean"))


def test_actions_are_scaled_as_published() -> None:
    action = torch.tensor([0.05, -0.05, 0.0, 0.25, -0.25, 0.0, 0.0]).numpy()
    scaled = torch.from_numpy(ACTIONS.normalise(action))
    torch.testing.assert_close(scaled, torch.tensor([1.75, -1.75, 0, 1.4, -1.4, 0, -1]), rtol=0, atol=1e-6)
    assert ACTIONS.gripper == "0 is open, 1 is closed"


def test_the_configuration_is_that_of_the_published_code(tmp_path: Path) -> None:
    model = imported(tmp_path, "dit_plain_p2", False, replace(PATCHED, objective="ddpm"))
    config = model.config
    assert (config.objective, config.alignment, config.action_dropout) == ("ddpm", "outgoing", 0.1)
    assert (config.dit.action_inputs, config.dit.max_frames, config.dit.view_order) == (10, 6, "interleaved")
    flow = config.flow
    assert (flow.context_level, flow.shift_base, flow.history_noise) == (0.01, 4096, 0.3)
    assert model.data is not None
    assert (model.data.frame_skip, model.data.actions) == (2, "first")
    normaliser = model.space.normaliser
    assert torch.equal(normaliser.mean, torch.zeros(8))
    assert torch.equal(normaliser.std, torch.ones(8))
