"""Does an encoder keep the contract? Found out in seconds, before a study spends hours on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rslwm.compute import generator
from rslwm.data.check import Finding, Report
from rslwm.latents.base import Encoder, FrameBatch, encoder_class
from rslwm.latents.decoder import DecoderConfig, SubPixelDecoder
from rslwm.latents.normaliser import deviation

EXACT = 1e-5
"""Relative; what is computed twice in the same way."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Relative to the largest latent; what is computed in batches of other sizes, by the network's precision. A ViT-L in
bfloat16 differs by 0.02 to 0.025 on a CPU."""


def check_encoder(encoder: Encoder, frames: Tensor | None = None) -> Report:
    """Try out everything that a study will ask of an encoder, and compare it with what its spec says, on ``frames``
    (B, T, H, W, 3) float in [0, 1], two clips of two frames at least; on noise without."""
    size = encoder.image_size
    if frames is None:
        frames = torch.rand(2, 3, size, size, 3, generator=generator(0, "encoder check"))
    encoder = encoder.eval()
    findings = [*_encoding(encoder, frames)]
    if not findings:
        findings += [*_claims(encoder, frames[:1, :1])]
        if encoder.decodes:
            findings += _decoding(encoder, frames)
        if encoder.trainable:
            findings += _training(encoder, frames[:, :2])
    spec = encoder.spec
    kind = "trainable" if encoder.trainable else "frozen"
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
        what = f"{latents.dtype} with NaN or infinity" if latents.is_floating_point() else f"{latents.dtype} latents"
        yield Finding("error", "encode", what, "return finite floating-point latents")
        return
    if _apart(encoder.encode(frames), latents) > EXACT:
        yield Finding("error", "encode", "two calls on the same frames differ", "take the mean, draw nothing")
    tolerance = TOLERANCE[_precision(encoder, frames.device)]
    alone = torch.cat([encoder.encode(frames[:, t : t + 1]) for t in range(frames.shape[1])], 1)
    if (found := _apart(alone, latents)) > tolerance:
        what = f"a frame's latents depend on the other frames of its clip: they differ by {found:.2g} of the largest"
        yield Finding("error", "encode", what, "encode frame by frame: a rollout has only the past")
    if (found := _apart(encoder.encode(frames.flip(0)).flip(0), latents)) > tolerance:
        what = f"a clip's latents depend on its place in the batch: they differ by {found:.2g} of the largest"
        yield Finding("error", "encode", what, "normalise with stored statistics, not with the batch's")
    if deviation(latents.flatten(0, 1)) <= EXACT * latents.abs().max():
        yield Finding("error", "encode", "different frames have the same latents", "check weights and preprocessing")
    try:
        SubPixelDecoder(DecoderConfig(), spec, encoder.image_size)
    except ValueError as error:
        yield Finding("error", "spec.grid", str(error), "choose an image size or patch for which it divides")


def _apart(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-12))


def _precision(encoder: Encoder, where: torch.device) -> torch.dtype:
    """Of the network's arithmetic; a frozen encoder may well be in half precision."""
    weights = encoder.bare_network(where).parameters()
    return torch.bfloat16 if any(w.dtype in (torch.bfloat16, torch.float16) for w in weights) else torch.float32


def _claims(encoder: Encoder, frame: Tensor) -> Iterator[Finding]:
    """What the spec says of parameters, precision and input size."""
    weights, spec = [*encoder.bare_network(frame.device).parameters()], encoder.spec
    total, used = sum(w.numel() for w in weights), _used(encoder, frame, weights)
    if total and not used <= spec.parameters <= total:
        what = f"{spec.parameters:,} parameters; encoding uses {used:,}, and there are {total:,}"
        yield Finding("error", "spec.parameters", what, "give those of the encoder: its cost is reported by them")
    record = spec.preprocessing
    dtypes = {str(w.dtype).removeprefix("torch.") for w in weights}
    if dtypes and record.get("dtype", min(dtypes)) not in dtypes:
        what = f"the record says dtype {record['dtype']}, the network's is {', '.join(sorted(dtypes))}"
        yield Finding("error", "spec.preprocessing", what, "record the dtype that the network computes in")
    size = record.get("size", spec.grid[0])
    if not isinstance(size, int) or size % spec.grid[0]:
        what = f"the record says size {size!r}, which {spec.grid[0]} rows of patches can't fill"
        yield Finding("error", "spec.preprocessing", what, "record the side in pixels that the network sees")


def _used(encoder: Encoder, frame: Tensor, weights: Sequence[Tensor]) -> int:
    """Parameters that the latents of a frame depend on; 0 where gradients can't tell."""
    before = [w.requires_grad for w in weights]
    for w in weights:
        w.requires_grad_(True)
    with torch.enable_grad():
        latents = encoder.encode_in_graph(frame)
        gradients = torch.autograd.grad(latents.sum(), weights, allow_unused=True) if latents.requires_grad else ()
    for w, required in zip(weights, before, strict=True):
        w.requires_grad_(required)
    return sum(g.numel() for g in gradients if g is not None)


@torch.no_grad()
def _decoding(encoder: Encoder, frames: Tensor) -> Iterator[Finding]:
    """Shape, range and determinism of the encoder's own decoder."""
    latents = encoder.encode(frames)
    images = encoder.decode(latents)
    if images.shape != frames.shape:
        what = f"returns {tuple(images.shape)} for latents of frames {tuple(frames.shape)}"
        yield Finding("error", "decode", what, "return (B, T, H, W, 3) of the frames' size")
        return
    low, high = float(images.min()), float(images.max())
    if not (images.is_floating_point() and 0 <= low <= high <= 1):
        yield Finding("error", "decode", f"{images.dtype} from {low:.3g} to {high:.3g}", "return floats in [0, 1]")
    if _apart(encoder.decode(latents), images) > EXACT:
        yield Finding("error", "decode", "two calls on the same latents differ", "draw nothing")


def _training(encoder: Encoder, frames: Tensor) -> Iterator[Finding]:
    """A finite scalar loss that depends on nothing but batch and generator, and gradients that reach weights."""
    features = None
    if encoder.teacher is not None:
        with torch.no_grad():
            features = encoder_class(encoder.teacher)(encoder.config, encoder.image_size).eval().encode(frames)
    batch = FrameBatch(frames, ["push the red cube", "open the drawer"], features)
    encoder.train()
    losses = [encoder.loss(batch, generator(0, "encoder check noise"))[0] for _ in range(2)]
    if losses[0].shape or not losses[0].isfinite():
        what = f"a tensor of shape {tuple(losses[0].shape)}, value {losses[0].detach()}"
        yield Finding("error", "loss", what, "return one finite number")
        return
    if not torch.allclose(losses[0], losses[1], rtol=TOLERANCE[torch.float32]):
        yield Finding("error", "loss", "two calls with the same generator differ", "draw from the generator only")
    losses[0].backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in encoder.parameters() if p.requires_grad]
    if not any(reached):
        yield Finding("error", "loss", "no parameter has a gradient", "check for detach() and no_grad()")
    encoder.zero_grad(set_to_none=True)
