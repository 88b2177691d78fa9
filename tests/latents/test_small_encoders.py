"""The six small encoders differ in nothing but their objective."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import generator, seeded
from rslwm.latents.base import ENCODERS, EncoderConfig, FrameBatch, TrainableEncoder

NAMES = ("small-vae", "small-vavae", "small-cosmos", "small-vjepa", "small-dino", "small-siglip")
SEMANTIC = NAMES[3:]
TINY = EncoderConfig(width=16, depth=1, heads=2, channels=4)


def build(name: str, config: EncoderConfig = TINY, image_size: int = 32) -> TrainableEncoder:
    with seeded(0, name):
        encoder = ENCODERS.get(name)(config, image_size)
    assert isinstance(encoder, TrainableEncoder)
    return encoder


def frames(*shape: int, size: int = 32) -> Tensor:
    return torch.rand(*shape, size, size, 3, generator=generator(0, "frames"))


def batch(width: int = TINY.width, pairs: int = 4, size: int = 32) -> FrameBatch:
    features = torch.randn(pairs, 2, size // 8, size // 8, width, generator=generator(0, "features"))
    return FrameBatch(frames(pairs, 2, size=size), ["push the cube", "", "open it", "push the cube"][:pairs], features)


def flops(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def spread(values: list[int]) -> float:
    return max(values) / min(values) - 1


def test_all_six_are_found_by_name_and_family() -> None:
    found = {name: build(name).spec.family for name in NAMES}
    assert found == {name: "semantic" if name in SEMANTIC else "reconstruction" for name in NAMES}


@pytest.fixture(scope="module")
def full_size() -> list[TrainableEncoder]:
    """The encoders as a study trains them, on 64 px frames."""
    return [build(name, EncoderConfig(), 64) for name in NAMES]


def test_they_have_the_same_number_of_parameters(full_size: list[TrainableEncoder]) -> None:
    assert spread([encoder.spec.parameters for encoder in full_size]) < 0.05


@torch.no_grad()
def test_they_encode_a_frame_at_the_same_cost(full_size: list[TrainableEncoder]) -> None:
    assert spread([flops(lambda e=e: e.encode(frames(1, 1, size=64))) for e in full_size]) < 0.05


def test_they_train_at_the_same_cost(full_size: list[TrainableEncoder]) -> None:
    pairs = batch(EncoderConfig().width, pairs=2, size=64)

    def train(encoder: TrainableEncoder) -> None:
        encoder.loss(pairs, generator(0, "noise"))[0].backward()

    assert spread([flops(lambda e=e: train(e)) for e in full_size]) < 0.10


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_sum_of_its_terms_and_repeats(name: str) -> None:
    encoder = build(name)
    value, terms = encoder.loss(batch(), generator(0, "noise"))
    torch.testing.assert_close(value, torch.stack(list(terms.values())).sum())
    assert torch.equal(value, encoder.loss(batch(), generator(0, "noise"))[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_reaches_every_weight_that_wants_a_gradient(name: str) -> None:
    encoder = build(name)
    encoder.loss(batch(), generator(0, "noise"))[0].backward()
    assert [k for k, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("name", SEMANTIC)
def test_the_teacher_moves_only_by_update(name: str) -> None:
    encoder = build(name)
    teacher = {k: v.clone() for k, v in encoder.backbone.state_dict().items()}
    with torch.no_grad():
        for parameter in encoder.student.parameters():
            parameter += 1
    assert all(torch.equal(v, teacher[k]) for k, v in encoder.backbone.state_dict().items())
    encoder.update(0.0)
    for k, v in encoder.backbone.state_dict().items():
        torch.testing.assert_close(v, teacher[k] + 1 - encoder.momentum[0])


def test_the_aligned_autoencoder_needs_its_teachers_features() -> None:
    assert build("small-vavae").teacher == "small-dino"
    with pytest.raises(ValueError, match="features is None"):
        build("small-vavae").loss(FrameBatch(frames(4, 2), [""] * 4), generator(0, "noise"))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("small-vae", EncoderConfig(patch=7), r"image_size 32 is not a multiple of encoder\.patch 7"),
        ("small-vae", EncoderConfig(width=16, heads=3), r"encoder\.heads 3 does not divide encoder\.width 16"),
        ("small-cosmos", EncoderConfig(patch=2), r"encoder\.patch 2 is not a multiple of 4"),
    ],
)
def test_an_impossible_configuration_is_refused(name: str, config: EncoderConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, config)
