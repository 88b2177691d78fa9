"""How fast generated latents become pixels: in batches against frame by frame, and what leaving it out saves."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rslwm.bench.config import DecodeBenchConfig
from rslwm.bench.result import Comparison, Measurement
from rslwm.bench.timing import Work, announce, interleaved, timed
from rslwm.bench.world import SPEC, world_model
from rslwm.compute import ComputeConfig, autocast, generator, peak_flops, precision, seeded
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.pixels import TrainedDecoder, open_decoder
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.serialisation import from_dict


def measure(config: DecodeBenchConfig, compute: ComputeConfig) -> list[Comparison]:
    """Two comparisons a pixel decoder, with random weights: decoding in one batch against frame by frame, and a
    rollout that stays in latents against one that is decoded.

    Raises:
        ConfigError: no such decoder.
    """
    model = world_model(config, compute).for_inference(compute)
    return [comparison for kind in config.decoders for comparison in _measure(kind, model, config, compute)]


def decoding(model: WorldModel, config: DecoderConfig, image_size: int) -> WorldModel:
    """The world model with a pixel decoder of random weights."""
    with seeded(0, f"bench {config.kind} decoder"):
        decoder = open_decoder(config, model.space.spec, image_size)
    model.space.set_pixels(TrainedDecoder(decoder.to(model.device).eval()))
    return model


def frame_by_frame(model: WorldModel, latents: Tensor) -> Tensor:
    """What decoding each frame as it comes does: (B, T, h, w, C) -> (B, T, H, W, 3)."""
    return torch.cat([model.decode(frame) for frame in latents.split(1, 1)], 1)


def _measure(kind: str, model: WorldModel, config: DecodeBenchConfig, compute: ComputeConfig) -> list[Comparison]:
    decoding(model, from_dict(DecoderConfig, {"kind": kind}, "decoders"), config.image_size)
    drawn, where = generator(config.seed, "bench decode"), model.device
    latent = (config.batch, config.frames, *model.space.spec.grid, model.space.spec.channels)
    latents, context = torch.randn(latent, generator=drawn), torch.randn(latent, generator=drawn)[:, : config.context]
    given = config.context - 1 + config.frames
    actions = 2 * torch.rand(config.batch, given, SPEC.dims, generator=drawn) - 1
    latents, context, actions = (x.to(where) for x in (latents, context, actions))

    def roll_out() -> Tensor:
        return model.rollout(context, actions, SamplingConfig(config.steps), drawn)

    works: list[Work] = [partial(model.decode, latents), partial(frame_by_frame, model, latents), roll_out]
    dtype = str(precision(compute)).removeprefix("torch.")
    title = f"{kind} decoder, {dtype}"
    with FlopCounterMode(display=False) as counter:
        second = timed(_cast(partial(model.decode, latents[:1, :1]), compute))
    frames, flops = config.batch * config.frames, float(counter.get_total_flops())
    announce(title, 2 * (config.rounds + 1) * frames * second)
    batch, single, rollout = interleaved([_cast(work, compute) for work in works], config.rounds, label=title)
    both = [made + shown for made, shown in zip(rollout, batch, strict=True)]

    settings = {**asdict(config), "decoder": kind, "dtype": dtype}
    runs = partial(Measurement, items=frames, unit="frames")
    left_out, shown = runs("latents only", rollout), runs("latents and pixels", both)
    return [
        Comparison(
            title,
            settings,
            runs("one batch", batch, flops=frames * flops),
            runs("frame by frame", single, flops=frames * flops),
            peak=peak_flops(where, precision(compute)),
        ),
        Comparison(
            f"rollout without the {kind} decoder, {dtype}",
            settings,
            left_out,
            shown,
            quality={"share of the rollout that decoding takes": 1 - shown.rate / left_out.rate},
        ),
    ]


def _cast(work: Work, compute: ComputeConfig) -> Work:
    def run() -> object:
        with autocast(compute):
            return work()

    return run
