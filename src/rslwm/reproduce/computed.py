"""What of the paper follows from sizes alone, computed again on any machine: no weights, no data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rslwm.latents.published.base import MissingLibrary, PublishedEncoder
from rslwm.model.flow import shift_factor
from rslwm.reproduce.paper import tables
from rslwm.reproduce.quantities import QUANTITIES
from rslwm.reproduce.results import Result
from rslwm.reproduce.spaces import SPACES
from rslwm.study.config import PRESETS
from rslwm.study.graph import Study
from rslwm.study.stages.decoder import DecoderStage
from rslwm.study.stages.latents import SpaceStage, restoring
from rslwm.study.stages.world_model import WorldModelStage
from rslwm.study.subjects import Variant
from rslwm.types import Progress, silent

COMMAND = "rslwm reproduce --run"


def recompute(only: str = "", progress: Progress = silent) -> tuple[list[Result], dict[str, str]]:
    """All computed quantities of the table called ``only``, or of every one that has some; and, by the paper's name of
    a space, why its numbers can't be computed here."""
    found, failed = list[Result](), dict[str, str]()
    wanted: dict[tuple[str, str], list[str]] = {}
    for table in tables():
        for row in table.rows if only in ("", table.name) else ():
            names = [cell.quantity for cell in row.cells if QUANTITIES[cell.quantity].computed]
            if names:
                wanted.setdefault((row.space, row.size), []).extend(names)
    for done, ((space, size), names) in enumerate(wanted.items()):
        progress(done, len(wanted), space)
        try:
            values = dict(_values(_variant(space, size), {*names}))
        except MissingLibrary as why:
            failed[space] = str(why)
            continue
        found += [Result(space, name, float(f"{values[name]:.8g}"), COMMAND, size) for name in names]
    progress(len(wanted), len(wanted), "")
    return found, failed


def _variant(space: str, size: str) -> Variant:
    """The row of the preset ``bridge``."""
    config = replace(PRESETS["bridge"], latents=(SPACES[space].published,), sizes=(size or "S",))
    return Study(config).variants[0]


def _values(variant: Variant, wanted: set[str]) -> Iterator[tuple[str, float]]:
    if "gamma" in wanted:
        yield "gamma", _gamma(variant)
    if any(name.startswith("parameters_") for name in wanted):
        yield from _parameters(variant)
    if any(name.startswith("gflop_") for name in wanted):
        yield from _gflop(variant)


def _gamma(variant: Variant) -> float:
    model, spec = variant.world_model, variant.described.view_spec
    h, w = spec.grid
    return shift_factor(model.flow, h * w // model.dit.patch**2, spec.channels)


def _parameters(variant: Variant) -> Iterator[tuple[str, float]]:
    """In millions, of networks built on the meta device."""
    space, model = variant.pull(SpaceStage), variant.pull(WorldModelStage)
    encoding, decoding = _halves(variant)
    yield "parameters_encoder", encoding / 1e6
    if channels := space.settings.channels:
        yield "parameters_adapter", restoring(space.settings.adapter, *space.encoder.tokens, channels).parameters / 1e6
    yield "parameters_transformer", model.one.parameters / 1e6
    decoder = variant.pull(DecoderStage)
    trained = decoder.twin or decoder
    yield "parameters_decoder", (trained.one.parameters if trained.latents else decoding) / 1e6


def _gflop(variant: Variant) -> Iterator[tuple[str, float]]:
    """Of a frame, counted as Table 4 does, see :data:`rslwm.reproduce.quantities.GFLOP`."""
    space, model = variant.pull(SpaceStage), variant.pull(WorldModelStage)
    encoding, decoding = _products(_published(variant))
    decoder = variant.pull(DecoderStage)
    trained = decoder.twin or decoder
    flops = {
        "encoder": encoding,
        "adapter": space.compress_flops,
        "transformer": model.predict_flops,
        "decoder": trained.one.flops if trained.latents else decoding,
    }
    flops["total"] = sum(flops.values())
    yield from ((f"gflop_{part}", number / 1e9) for part, number in flops.items())


@torch.no_grad()
def _products(encoder: PublishedEncoder) -> tuple[float, float]:
    """Operations of a published network's linear layers and convolutions, encoding a frame and decoding it."""
    with torch.device("meta"):
        network, side = encoder.build(encoder.architecture).eval(), encoder.preprocessing.size
        image, latent = torch.empty(1, 3, side, side), torch.empty(1, *encoder.spec.grid, encoder.spec.channels)

    def counted(work: Callable[[], Tensor]) -> float:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            work()
        attention = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
        return float(sum(n for op, n in counter.get_flop_counts()["Global"].items() if op not in attention))

    decoding = counted(lambda: encoder.images(network, latent)) if encoder.decodes else 0.0
    return counted(lambda: encoder.features(network, image)), decoding


def _published(variant: Variant) -> PublishedEncoder:
    encoder = variant.described.encoder
    assert isinstance(encoder, PublishedEncoder)
    return encoder


def _halves(variant: Variant) -> tuple[int, int]:
    """Parameters of a published network that encode, and those that decode; 0 where it can't."""
    encoder = _published(variant)
    with torch.device("meta"):
        network: nn.Module = encoder.build(encoder.architecture)
    whole = sum(p.numel() for p in network.parameters())
    if not encoder.decodes:
        return whole, 0
    halves = [getattr(network, name, None) for name in ("encoder", "quant_conv")]
    encoding = sum(p.numel() for half in halves if half is not None for p in half.parameters())
    return encoding, whole - encoding
