"""V-JEPA 2.1 by name: its checkpoint's layout, what is refused, and its options."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rslwm.latents.base import EncoderConfig
from rslwm.latents.check import check_encoder
from rslwm.latents.published.vjepa import FILE, VJEPA21, VJEPAOptions
from rslwm.types import DataError
from tiny_checkpoints import vjepa as tiny

FRAMES = torch.rand(1, 2, 96, 96, 3, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("weights")) / FILE


def opened(file: Path, **options: Any) -> VJEPA21:
    return VJEPA21(EncoderConfig(input_size=64), 96, VJEPAOptions(weights=str(file), **{"dtype": "float32", **options}))


def opened_without_weights(**options: Any) -> VJEPA21:
    return VJEPA21(EncoderConfig(), 256, VJEPAOptions(**options))


def saved(content: Any, folder: Path) -> Path:
    torch.save(content, folder / FILE)
    return folder / FILE


def test_a_published_checkpoint_is_found_below_the_folder_of_weights(checkpoint: Path) -> None:
    encoder = VJEPA21(EncoderConfig(input_size=64, weights=str(checkpoint.parents[1])), 64)
    assert encoder.spec.grid == (4, 4)
    assert encoder.spec.channels == tiny.WIDTH
    assert encoder.spec.parameters == sum(x.numel() for x in tiny.encoder().values())
    assert encoder.encode(FRAMES).shape == (1, 2, 4, 4, tiny.WIDTH)
    assert not check_encoder(encoder).findings


def test_latents_are_those_of_the_network_on_normalised_images(checkpoint: Path) -> None:
    encoder = opened(checkpoint)
    images = encoder.preprocessing(FRAMES[0])
    tokens = encoder.network(images.device)(images[:, :, None])
    torch.testing.assert_close(encoder.encode(FRAMES)[0].flatten(1, 2), tokens, rtol=1e-4, atol=1e-5)


def test_the_published_network_has_the_published_tensors_and_parameters() -> None:
    with torch.device("meta"):
        network = opened_without_weights().build(VJEPA21.published)
    assert len(network.state_dict()) == 302
    assert sum(x.numel() for x in network.parameters()) == VJEPA21.published.parameters == 304_680_960


@pytest.mark.parametrize("entry", ["ema_encoder", "target_encoder", "encoder", "file"])
def test_the_first_state_dict_in_the_file_is_taken_and_recorded(entry: str, tmp_path: Path) -> None:
    order = ["ema_encoder", "target_encoder", "encoder"]
    present = order[order.index(entry) :] if entry in order else []
    content: dict[str, Any] = {name: tiny.wrapped(tiny.encoder(seed)) for seed, name in reversed([*enumerate(present)])}
    encoder = opened(saved(content or tiny.encoder(0), tmp_path))
    assert encoder.spec.preprocessing["entry"] == entry
    network = encoder.network(torch.device("cpu"))
    assert torch.equal(network.state_dict()["img_mod_embed"], tiny.encoder(0)["img_mod_embed"])


def test_another_state_dict_is_taken_if_asked_for(checkpoint: Path) -> None:
    student = opened(checkpoint, entry="encoder")
    assert student.spec.preprocessing["entry"] == "encoder"
    assert not torch.allclose(student.encode(FRAMES), opened(checkpoint).encode(FRAMES), atol=1e-2)


def test_a_state_dict_that_is_asked_for_and_absent_is_refused(checkpoint: Path) -> None:
    with pytest.raises(DataError, match=f"{FILE}.*'target_encoder'.*ema_encoder"):
        opened(checkpoint, entry="target_encoder")


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone.", "module.module.backbone."])
def test_wrappers_before_a_name_are_stripped(prefix: str, checkpoint: Path, tmp_path: Path) -> None:
    file = saved({"ema_encoder": {prefix + name: x for name, x in tiny.encoder(0).items()}}, tmp_path)
    assert torch.equal(opened(file).encode(FRAMES), opened(checkpoint).encode(FRAMES))


def renamed(tensors: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {new if name == old else name: x for name, x in tensors.items()}


def without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {other: x for other, x in tensors.items() if other != name}


PROJ = "blocks.1.attn.proj.weight"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (without(tiny.encoder(), PROJ), f"{PROJ}.* is missing"),
        (renamed(tiny.encoder(), PROJ, "blocks.1.module.attn.proj.weight"), f"{PROJ}.* is missing"),
        (tiny.encoder() | {"module.pos_embed": torch.zeros(3)}, "unexpected tensor 'module.pos_embed'"),
        (tiny.encoder() | {"module." + PROJ: torch.zeros(64, 64)}, f"unexpected tensor '(module.)?{PROJ}'"),
        (tiny.encoder() | {PROJ: torch.zeros(64, 32)}, rf"{PROJ}.* is \(64, 32\), expected \(64, 64\)"),
        (tiny.encoder() | {"norms_block.4.bias": torch.zeros(64)}, "unexpected tensor 'norms_block.4.bias'"),
    ],
    ids=["missing", "wrapper-inside", "extra", "twice", "shape", "fifth-level"],
)
def test_other_tensors_are_refused_by_name(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    encoder = opened(saved({"ema_encoder": tensors}, tmp_path))
    with pytest.raises(DataError, match=f"{FILE}: .*{message}"):
        encoder.encode(FRAMES)
    assert not encoder._network


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"target_encoder": without(tiny.encoder(), "patch_embed_img.proj.weight")},
            "patch_embed_img.proj.weight.* is",
        ),
        ({"state_dict": {}, "epoch": 1}, "'state_dict' is a dict, expected a tensor"),
        ({"ema_encoder": tiny.encoder() | {"step": 7}}, "'step' is a int"),
        ({"encoder.conv_in.weight": torch.zeros(3, 3)}, "'patch_embed.proj.weight' is missing"),
        (tiny.encoder() | {"patch_embed_img.proj.weight": torch.zeros(65, 3, 1, 16, 16)}, "width is 65"),
        (tiny.encoder() | {"patch_embed_img.proj.weight": torch.zeros(65)}, r"is \(65,\), not 5-d"),
        ({n: x for n, x in tiny.encoder().items() if not n.startswith(("blocks.2", "blocks.3"))}, "has 2 block"),
    ],
    ids=["v-jepa-2", "lightning", "no-tensor", "other-model", "width", "axes", "depth"],
)
def test_another_model_is_refused_at_once(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{FILE}: .*{message}"):
        opened(saved(content, tmp_path))


class Harmful:
    """Its pickle would create the file, were it run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    file = saved({"ema_encoder": tiny.encoder(), "hook": Harmful(trace)}, tmp_path)
    with pytest.raises(DataError, match=f"{FILE} would run code"):
        opened(file)
    assert not trace.exists()


@pytest.mark.parametrize("option", [{"filter": "bilinear"}, {"antialias": False}, {"dtype": "bfloat16"}])
def test_an_option_changes_latents_and_is_recorded(option: dict[str, Any], checkpoint: Path) -> None:
    default, changed = opened(checkpoint), opened(checkpoint, **option)
    assert not torch.equal(changed.encode(FRAMES), default.encode(FRAMES))
    assert changed.spec.preprocessing == default.spec.preprocessing | option


def test_four_levels_are_four_times_as_wide_and_end_with_the_last(checkpoint: Path) -> None:
    last, multi = opened(checkpoint), opened(checkpoint, level="multi")
    assert multi.spec.channels == 4 * last.spec.channels
    assert multi.spec.preprocessing == last.spec.preprocessing | {"level": "multi"}
    latents = multi.encode(FRAMES)
    assert latents.shape[-1] == multi.spec.channels
    torch.testing.assert_close(latents[..., -tiny.WIDTH :], last.encode(FRAMES))


def test_the_tiny_checkpoint_is_the_same_every_time(checkpoint: Path, tmp_path: Path) -> None:
    assert (tiny.write(tmp_path) / FILE).read_bytes() == checkpoint.read_bytes()
