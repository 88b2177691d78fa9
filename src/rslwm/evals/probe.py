"""Probes: small readers trained on encoder latents of the training episodes, then applied frozen to generated ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.compute import ComputeConfig, device, generator, seeded
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.base import NotAvailable
from rslwm.evals.evaluation import in_parts
from rslwm.latents.decoder import ResidualBlock
from rslwm.optim import OptimConfig
from rslwm.serialisation import from_dict, to_dict
from rslwm.tensors import load_weights, write_tensors
from rslwm.train.loop import fit
from rslwm.types import Progress, silent

WEIGHTS, RECORD = "probe.safetensors", "probe.json"
_HIDDEN = 256
Draw = Callable[[torch.Generator], tuple[Tensor, Tensor, Tensor]]
"""Draws latents (B, T, h, w, C), what is to be read out of them (B, out), and the weight of each number (B, out)."""


@dataclass(frozen=True)
class ProbeConfig:
    """Network and training of every probe. Probes are trained on encoder latents of the training episodes and applied
    frozen to generated ones."""

    width: int = 48
    """Channels of its convolutions: the capacity of a probe, the same for every space."""
    grid: int = 8
    """Cells a side that a probe reads: finer latents are folded into channels, coarser ones are interpolated."""
    channels: int = 256
    """Channels of a cell that it reads; of more, as many random mixtures."""
    noise: float = 0.05
    """Standard deviation of the noise added to the (normalised) latents in training; the success probe has its own."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=400, batch_size=96, lr=4e-3))
    redraw: int = 0
    """Another number trains other probes on the same latents."""


class Reader(nn.Module):
    """A probe's network: (B, T, h, w, C) latents to (B, out) numbers. Built again from ``arguments`` and ``config``."""

    def __init__(self, frames: int, channels: int, grid: tuple[int, int], out: int, config: ProbeConfig) -> None:
        super().__init__()
        self.config = config
        self.arguments: dict[str, Any] = {"frames": frames, "channels": channels, "grid": grid, "out": out}


class GridProbe(Reader):
    """The network of nearly every probe: convolutions over the grid, frames stacked along channels.

    It has the same weights to learn with whatever the latents' grid and channels are, or a probe's error would tell the
    size of its reader.

    Latents are brought to ``config.grid`` cells a side: what a cell covers of a finer grid becomes its channels, so no
    position is lost, and a coarser grid is interpolated. Of more than ``config.channels`` channels the probe sees as
    many mixtures, drawn at random once and not trained; of fewer, the rest of the embedding's weights lie idle.
    """

    def __init__(self, frames: int, channels: int, grid: tuple[int, int], out: int, config: ProbeConfig) -> None:
        super().__init__(frames, channels, grid, out, config)
        self.side, width = config.grid, config.width
        self.fold = (-(-grid[0] // self.side), -(-grid[1] // self.side))
        folded = channels * self.fold[0] * self.fold[1]
        self.used = min(folded, config.channels)
        self.embed = nn.Conv2d(frames * config.channels, width, 1)
        with torch.no_grad():  # as if the idle ones weren't there
            self.embed.weight.mul_((config.channels / self.used) ** 0.5)
        mixing = torch.randn(folded, self.used) / folded**0.5 if folded > self.used else None
        self.register_buffer("mixing", mixing)
        self.mixing: Tensor | None
        self.fine, self.down, self.coarse = ResidualBlock(width), nn.Conv2d(width, width, 3, 2, 1), ResidualBlock(width)
        cells = (-(-self.side // 2)) ** 2
        self.head = nn.Sequential(nn.Linear(cells * width, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, out))

    def forward(self, latents: Tensor) -> Tensor:
        T = latents.shape[1]
        cells = rearrange(self._cells(latents), "(B T) C h w -> B (T C) h w", T=T)
        weight = rearrange(self.embed.weight, "D (T C) 1 1 -> D T C 1 1", T=T)[:, :, : self.used].flatten(1, 2)
        x = F.conv2d(cells, weight, self.embed.bias)
        return self.head(self.coarse(self.down(self.fine(x))).flatten(1)).float()

    def _cells(self, latents: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B T, used, side, side)."""
        x = rearrange(latents, "B T h w C -> (B T) C h w")
        a, b = self.fold
        if x.shape[2:] != (a * self.side, b * self.side):
            x = F.interpolate(x, (a * self.side, b * self.side), mode="bilinear")
        x = rearrange(x, "N C (h a) (w b) -> N (C a b) h w", a=a, b=b)
        return x if self.mixing is None else torch.einsum("N C h w, C D -> N D h w", x, self.mixing.to(x.dtype))


@dataclass(frozen=True)
class Probe:
    """What a probe reads and from what; a subclass beside its metric adds settings as fields. Equal ones are trained
    once a space."""

    version: ClassVar[int] = 1
    """Of the weights; raise it when they change, see :mod:`rslwm.study.versions`."""
    reader: ClassVar[type[Reader]] = GridProbe
    """Its network, of its own where it reads in another way."""
    reads: ClassVar[int] = 1
    """T, the frames that it is given."""
    noise: float | None = field(default=None, kw_only=True)
    """Of its own, in place of that of :class:`ProbeConfig`."""

    @property
    def name(self) -> str:
        """For people and for its random streams."""
        raise NotImplementedError

    @property
    def about(self) -> int:
        """How many numbers it predicts as a rule, for estimates."""
        return 1

    @property
    def span(self) -> int:
        """Frames of the clips from which it takes those that it reads."""
        return self.reads

    def out(self, corpus: Corpus) -> int:
        """How many numbers it predicts.

        Raises:
            NotAvailable: the data don't record them.
        """
        raise NotImplementedError

    def batches(self, corpus: Corpus, latents: Readable, batch_size: int) -> Draw:
        """Draws from the training episodes.

        Raises:
            NotAvailable: the data can't train it.
        """
        raise NotImplementedError

    def loss(self, guess: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """What training minimises; all are (B, out)."""
        error = F.smooth_l1_loss(guess, target, beta=0.3, reduction="none")
        return (error * weight).sum() / weight.sum().clamp_min(1)


@dataclass(frozen=True)
class TrainedProbe:
    """A network that reads latents or, where the data couldn't train it, why there is none."""

    network: nn.Module | None
    absent: str = ""

    def require(self) -> nn.Module:
        """Its network.

        Raises:
            NotAvailable: there is none.
        """
        if self.network is None:
            raise NotAvailable(self.absent)
        return self.network.eval()

    def apply(self, latents: Tensor, compute: ComputeConfig) -> Tensor:
        """Outputs (N, out) on (N, T, h, w, C).

        Raises:
            NotAvailable: there is no network.
        """
        network = self.require().to(device(compute))
        return in_parts(lambda part: network(part.float()), 256, compute, latents)

    def save(self, folder: Path) -> None:
        """Write weights and all that is needed to build the network again."""
        record: dict[str, Any] = {"absent": self.absent}
        if isinstance(self.network, Reader):
            write_tensors(self.network.state_dict(), folder / WEIGHTS)
            record |= self.network.arguments | {"config": to_dict(self.network.config)}
        (folder / RECORD).write_text(json.dumps(record, indent=1))

    @classmethod
    def load(cls, folder: Path, reader: type[Reader] = GridProbe) -> TrainedProbe:
        """Inverse of :meth:`save`, strictly; ``reader`` is the probe's.

        Raises:
            DataError: the weights are missing, damaged or another network's.
        """
        record = json.loads((folder / RECORD).read_text())
        if absent := record.pop("absent"):
            return cls(None, absent)
        config = from_dict(ProbeConfig, record.pop("config"))
        network = reader(**{**record, "grid": tuple(record["grid"])}, config=config)
        load_weights(network, folder / WEIGHTS)
        return cls(network)


def train_probe(
    probe: Probe,
    corpus: Corpus,
    latents: Readable,
    config: ProbeConfig,
    seed: int,
    folder: Path,
    compute: ComputeConfig,
    progress: Progress = silent,
) -> TrainedProbe:
    """Train a probe on encoder latents of the training episodes; resumes from ``folder``. What the data can't train is
    absent and says why."""
    h, w, C = latents.shape(latents.keys[0])[1:]
    name, where = probe.name, device(compute)
    sigma = config.noise if probe.noise is None else probe.noise
    try:
        out, draw = probe.out(corpus), probe.batches(corpus, latents, config.optim.batch_size)
    except NotAvailable as reason:
        return TrainedProbe(None, str(reason))
    with seeded(seed, f"probe {name} {C}"):
        network = probe.reader(probe.reads, C, (h, w), out, config).to(where)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        z, target, weight = draw(generator(seed, f"probe {name} batch", step))
        z = z + sigma * torch.randn(z.shape, generator=generator(seed, f"probe {name} noise", step))
        return probe.loss(network(z.to(where)), target.to(where), weight.to(where)), {}

    fit(network, loss, config.optim, folder, compute, progress)
    return TrainedProbe(network)
