"""Does an encoder keep the contract? Found out in seconds, with random frames, before a study spends hours on it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rslwm.compute import generator
from rslwm.config import DecoderConfig
from rslwm.data.check import Finding, Report
from rslwm.latents.base import ENCODERS, Encoder, FrameBatch, TrainableEncoder
from rslwm.latents.decoder import SubPixelDecoder
from rslwm.latents.normaliser import deviation

TOLERANCE = 1e-3
"""Relative; batched matrix products differ in their last digits."""


def check_encoder(encoder: Encoder) -> Report:
    """Try out everything that a study will ask of an encoder."""
    size = encoder.image_size
    frames = torch.rand(2, 3, size, size, 3, generator=generator(0, "encoder check"))
    findings = [*_encoding(encoder.eval(), frames)]
    if not findings and isinstance(encoder, TrainableEncoder):
        findings += _training(encoder, frames[:, :2])
    spec = encoder.spec
    kind = "trainable" if isinstance(encoder, TrainableEncoder) else "frozen"
    grid = f"{spec.grid[0]}x{spec.grid[1]}x{spec.channels}"
    summary = f"{spec.name}: {kind}, {spec.family}, {size} px -> {grid}, {spec.parameters:,} parameters"
    return Report(summary, tuple(findings))


@torch.no_grad()
def _encoding(encoder: Encoder, frames: Tensor) -> Iterator[Finding]:
    """Shape, finiteness, determinism, frames encoded one by one, and latents that depend on the frame."""
    spec, latents = encoder.spec, encoder.encode(frames)
    expected = (*frames.shape[:2], *spec.grid, spec.channels)
    if latents.shape != expected:
        what = f"returns {tuple(latents.shape)} for frames {tuple(frames.shape)}; its spec says {expected}"
        yield Finding("error", "encode", what, "return (B, T, h, w, C), channels last, or correct the spec")
        return
    if not (latents.is_floating_point() and latents.isfinite().all()):
        yield Finding(
            "error", "encode", f"{latents.dtype} with NaN or infinity", "return finite floating-point latents"
        )
        return
    scale = latents.abs().max()
    if (encoder.encode(frames) - latents).abs().max() > TOLERANCE * scale:
        yield Finding("error", "encode", "two calls on the same frames differ", "take the mean, draw nothing")
    alone = torch.cat([encoder.encode(frames[:, t : t + 1]) for t in range(frames.shape[1])], 1)
    if (alone - latents).abs().max() > TOLERANCE * scale:
        what = "a frame's latents depend on the other frames of its clip"
        yield Finding("error", "encode", what, "encode frame by frame: a rollout has only the past")
    if deviation(latents.flatten(0, 1)) < TOLERANCE * scale:
        yield Finding("error", "encode", "different frames have the same latents", "check weights and preprocessing")
    try:
        SubPixelDecoder(DecoderConfig(), spec, encoder.image_size)
    except ValueError as error:
        yield Finding("error", "spec.grid", str(error), "choose an image size or patch for which it divides")


def _training(encoder: TrainableEncoder, frames: Tensor) -> Iterator[Finding]:
    """A finite scalar loss that depends on nothing but batch and generator, and gradients that reach weights."""
    batch = FrameBatch(frames, ["push the red cube", "open the drawer"], _teacher_features(encoder, frames))
    encoder.train()
    losses = [encoder.loss(batch, generator(0, "encoder check noise"))[0] for _ in range(2)]
    if losses[0].shape or not losses[0].isfinite():
        what = f"a tensor of shape {tuple(losses[0].shape)}, value {losses[0].detach()}"
        yield Finding("error", "loss", what, "return one finite number")
        return
    if not torch.allclose(losses[0], losses[1], rtol=TOLERANCE):
        yield Finding("error", "loss", "two calls with the same generator differ", "draw from the generator only")
    losses[0].backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in encoder.parameters() if p.requires_grad]
    if not any(reached):
        yield Finding("error", "loss", "no parameter has a gradient", "check for detach() and no_grad()")
    encoder.zero_grad(set_to_none=True)


def _teacher_features(encoder: TrainableEncoder, frames: Tensor) -> Tensor | None:
    if encoder.teacher is None:
        return None
    teacher = ENCODERS.get(encoder.teacher)(encoder.config, encoder.image_size)
    with torch.no_grad():
        return teacher.eval().encode(frames)
