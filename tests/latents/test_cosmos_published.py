"""Cosmos CI16x16: the program that NVIDIA publishes is run only if trusted, and only if it is the one described."""

import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rslwm.compute import generator
from rslwm.latents.base import EncoderConfig
from rslwm.latents.published.base import Options
from rslwm.latents.published.cosmos import Cosmos, Patcher, UnPatcher, haar, open_script, tokenizer
from rslwm.latents.space import LatentSpace, OwnDecoder, SpaceConfig
from rslwm.trust import VARIABLE
from rslwm.types import DataError
from tiny_checkpoints.cosmos import ARCHITECTURE, IMAGES, LATENTS, network, trace, write

FRAMES = torch.rand(1, 2, 64, 64, 3, generator=generator(0, "frames"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("weights")).parent


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of weights for a test to spoil."""
    return write(tmp_path)


@pytest.fixture(autouse=True)
def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")


def open_cosmos(folder: Path, **options: Any) -> Cosmos:
    return Cosmos(EncoderConfig(weights=str(folder), input_size=64), 64, Options(**options))


def refusal(place: Path) -> str:
    with pytest.raises(DataError) as refused:
        open_cosmos(place.parent).encode(FRAMES)
    return str(refused.value)


# ------------------------------------------------------------------------------------------------ the published network


@pytest.fixture(scope="module")
def full_size() -> Any:
    with torch.device("meta"):
        return tokenizer(Cosmos.published)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_those_of_the_paper_and_fill_the_published_files(full_size: Any) -> None:
    assert size(full_size.encoder) == Cosmos.published.parameters == 33_513_632
    assert size(full_size.decoder) == 47_995_456
    # In bfloat16; what is left of 67.2 and 96.2 MB is the program.
    assert 0 < 67.2e6 - 2 * size(full_size.encoder) < 0.3e6
    assert 0 < 96.2e6 - 2 * size(full_size.decoder) < 0.3e6


def test_operations_of_a_frame_are_those_of_the_paper() -> None:
    encoding, decoding = Cosmos(EncoderConfig(), 256).flops()
    assert encoding / 1e9 == pytest.approx(47.6, abs=0.05)
    assert decoding / 1e9 == pytest.approx(101.7, abs=0.05)


def test_a_256_px_frame_has_16_x_16_positions_of_16_channels() -> None:
    spec = Cosmos(EncoderConfig(), 256).spec
    assert (spec.grid, spec.channels, spec.parameters) == ((16, 16), 16, 33_513_632)


# ------------------------------------------------------------------------------------------------------------- wavelets


def test_a_flat_image_is_its_mean_in_the_first_band_at_every_level() -> None:
    bands = Patcher(2)(torch.full((1, 3, 8, 8), 0.25))
    assert bands.shape == (1, 48, 2, 2)
    torch.testing.assert_close(bands[:, :3], torch.full((1, 3, 2, 2), 0.25))
    assert bands[:, 3:].abs().max() == 0


def test_bands_come_as_mean_rows_columns_diagonal() -> None:
    square = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    assert haar(square[None, None]).flatten().tolist() == [15 / 4, -9 / 4, -5 / 4, 3 / 4]


def test_the_inverse_transform_gives_the_image_back() -> None:
    image = FRAMES[0].permute(0, 3, 1, 2)
    torch.testing.assert_close(UnPatcher(2)(Patcher(2)(image)), image)


# ---------------------------------------------------------------------------------------------------- a tiny checkpoint


def test_sizes_are_read_off_the_files(weights: Path) -> None:
    cosmos = open_cosmos(weights)
    assert cosmos.architecture == replace(ARCHITECTURE, parameters=size(network().encoder))
    assert (cosmos.spec.grid, cosmos.spec.channels) == ((4, 4), 8)


def test_latents_are_what_the_traced_network_makes_of_frames_in_plus_minus_one(weights: Path) -> None:
    images = (2 * FRAMES[0] - 1).permute(0, 3, 1, 2).to(torch.bfloat16)
    with torch.no_grad():
        expected = network().encoder(images)[0].permute(0, 2, 3, 1)[None]
    latents = open_cosmos(weights).encode(FRAMES)
    assert latents.shape == (1, 2, 4, 4, 8)
    torch.testing.assert_close(latents, expected.float(), atol=0.02, rtol=0.02)


def test_the_decoder_makes_frames(weights: Path) -> None:
    cosmos = open_cosmos(weights)
    latents = cosmos.encode(FRAMES)
    frames = cosmos.decode(latents)
    with torch.no_grad():
        images = network().decoder(latents[0].permute(0, 3, 1, 2).to(torch.bfloat16)).float()
    assert frames.shape == FRAMES.shape
    torch.testing.assert_close(frames[0], ((images + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1), atol=0.02, rtol=0.02)


def test_a_program_that_returns_bare_latents_encodes_the_same(place: Path) -> None:
    expected = open_cosmos(place.parent).encode(FRAMES)
    bare = network().encoder
    bare.distribution = nn.Identity()
    trace(bare, IMAGES, place / "encoder.jit")
    torch.testing.assert_close(open_cosmos(place.parent).encode(FRAMES), expected)


def test_precision_is_recorded_and_is_that_of_the_program(weights: Path) -> None:
    half, full = open_cosmos(weights), open_cosmos(weights, dtype="float32")
    assert (half.spec.preprocessing["dtype"], full.spec.preprocessing["dtype"]) == ("bfloat16", "float32")
    images = (2 * FRAMES[0] - 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = network().float().encoder(images)[0].permute(0, 2, 3, 1)[None]
    torch.testing.assert_close(full.encode(FRAMES), expected, atol=1e-4, rtol=1e-4)
    assert not torch.equal(half.encode(FRAMES), full.encode(FRAMES))


def test_loading_warns_of_nothing(weights: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_cosmos(weights).network(torch.device("cpu"))


# ------------------------------------------------------------------------------------------------------------- refusals


def test_a_program_is_not_opened_without_trust(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    cosmos = open_cosmos(weights)
    assert cosmos.spec.channels == Cosmos.published.channels
    with pytest.raises(DataError, match=r"encoder\.jit is TorchScript.*NVIDIA Open Model.*--trust.*RSLWM_TRUST=1"):
        cosmos.encode(FRAMES)


@pytest.mark.parametrize("file", ["encoder.jit", "decoder.jit"])
def test_a_truncated_file_is_refused(place: Path, file: str) -> None:
    content = (place / file).read_bytes()
    (place / file).write_bytes(content[: len(content) // 2])
    assert f"{place / file} is truncated or not a TorchScript file" in refusal(place)


def test_pickled_code_is_not_run_even_with_trust(place: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(place / "was here"),)

    for save in (lambda file: file.write_bytes(pickle.dumps(Evil())), lambda file: torch.save(Evil(), file)):
        save(place / "encoder.jit")
        assert f"{place / 'encoder.jit'} is truncated or not a TorchScript file" in refusal(place)
        assert not (place / "was here").exists()


def test_another_program_is_refused_for_the_first_tensor_that_it_lacks(place: Path) -> None:
    trace(nn.Conv2d(3, 8, 16, 16).to(torch.bfloat16), IMAGES, place / "encoder.jit")
    message = refusal(place)
    assert str(place / "encoder.jit") in message
    assert "'encoder.conv_in.weight' is missing" in message


def spoil_missing(half: Any) -> None:
    half.decoder.mid.attn_1 = nn.Identity()


def spoil_extra(half: Any) -> None:
    half.decoder.silu = nn.PReLU(dtype=torch.bfloat16)


def spoil_shape(half: Any) -> None:
    half.decoder.conv_in = nn.Conv2d(8, 32, 5, padding=2, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (spoil_missing, "tensor 'decoder.mid.attn_1.norm.weight' is missing"),
        (spoil_extra, "unexpected tensor 'decoder.silu.weight'"),
        (spoil_shape, "tensor 'decoder.conv_in.weight' is (32, 8, 5, 5), expected (32, 8, 3, 3)"),
    ],
)
def test_a_decoder_with_other_tensors_is_refused(place: Path, spoil: Callable[[Any], None], complaint: str) -> None:
    decoder = network().decoder
    spoil(decoder)
    trace(decoder, LATENTS, place / "decoder.jit")
    assert refusal(place) == f"{place / 'decoder.jit'}: {complaint}"


def test_a_program_with_the_right_tensors_but_other_latents_is_refused(place: Path) -> None:
    class Indices(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(1)

    discrete = network().encoder
    discrete.distribution = Indices()
    trace(discrete, IMAGES, place / "encoder.jit")
    message = refusal(place)
    assert str(place / "encoder.jit") in message
    assert "makes (1, 2, 2)" in message
    assert "expected (1, 8, 2, 2)" in message


def test_a_program_tied_to_its_precision_says_which_option_helps(place: Path) -> None:
    class Tied(Patcher):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.to(torch.bfloat16))

    tied: Any = network().encoder
    tied.encoder.patcher = Tied(ARCHITECTURE.wavelets)
    trace(tied, IMAGES, place / "encoder.jit")
    with pytest.raises(DataError, match=r"encoder\.jit doesn't run in float32.*try cosmos-ci16\[dtype=bfloat16\]"):
        open_cosmos(place.parent, dtype="float32").encode(FRAMES)
    assert open_cosmos(place.parent).encode(FRAMES).isfinite().all()


def test_a_result_in_another_precision_is_refused(place: Path) -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.to(torch.bfloat16)

    encoder = network().encoder
    encoder.distribution = Half()
    trace(encoder, IMAGES, place / "encoder.jit")
    with pytest.raises(DataError, match=r"computes in torch\.bfloat16, not in float32; try cosmos-ci16\[dtype=bf"):
        open_cosmos(place.parent, dtype="float32").encode(FRAMES)


def test_a_lone_encoder_is_refused_by_the_name_of_what_it_lacks(place: Path) -> None:
    (place / "decoder.jit").unlink()
    with pytest.raises(DataError, match=r"decoder\.jit does not exist"):
        open_cosmos(place, weights=str(place / "encoder.jit")).encode(FRAMES)


def test_an_encoder_without_levels_is_refused_by_the_first_one_s_name(place: Path) -> None:
    flat: Any = network().encoder
    flat.encoder.down = nn.Identity()
    trace(flat, IMAGES, place / "encoder.jit")
    assert "'encoder.down.0.block.0.conv1.weight' is missing" in refusal(place)


def test_a_first_convolution_of_no_cosmos_is_refused(place: Path) -> None:
    narrow: Any = network().encoder
    narrow.encoder.patcher, narrow.encoder.conv_in = nn.Identity(), nn.Conv2d(3, 24, 3, dtype=torch.bfloat16)
    narrow.encoder.down = nn.Conv2d(24, 32, 3, dtype=torch.bfloat16)
    trace(narrow, IMAGES, place / "encoder.jit")
    assert "a first convolution from 3 to 24 channels" in refusal(place)


def test_the_file_holds_the_parameters_under_the_published_names(place: Path) -> None:
    encoder, decoder = (dict(open_script(place / f).named_parameters()) for f in ("encoder.jit", "decoder.jit"))
    for name in ("conv_in", "down.1.block.0.nin_shortcut", "down.0.downsample.conv", "mid.attn_1.q", "norm_out"):
        assert f"encoder.{name}.weight" in encoder
    assert "quant_conv.weight" in encoder
    for name in ("up.2.block.1.conv1", "up.2.upsample.conv", "up.1.upsample.conv", "mid.block_2.norm2", "conv_out"):
        assert f"decoder.{name}.weight" in decoder
    assert "post_quant_conv.weight" in decoder
    assert "decoder.up.0.upsample.conv.weight" not in decoder


def test_a_saved_space_is_opened_without_running_the_program(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EncoderConfig(weights=str(weights), input_size=64)
    space = LatentSpace(SpaceConfig("cosmos-ci16", 64, encoder=config))
    space.set_pixels(OwnDecoder())
    space.save(tmp_path)
    monkeypatch.delenv(VARIABLE)
    opened = LatentSpace.load(tmp_path)
    assert opened.spec == space.spec
    with pytest.raises(DataError, match="--trust"):
        opened.decode(torch.zeros(1, 1, *space.spec.grid, space.spec.channels))
