"""rslwm latents check"""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from rslwm.cli.latents.named import DataCommand
from rslwm.cli.output import console


@dataclass
class Check(DataCommand):
    """Try out whether an encoder keeps the contract that a study relies on; exit code 1 if it doesn't.

    Loads it, encodes a few frames alone, in batches and in another order, decodes them if it can, and compares what it
    does with what its spec says. Then prints statistics, speed and the quality of encoding and decoding.

    For instance:
      rslwm latents check my_encoder.py:MyEncoder
      rslwm latents check sd3-vae[shift=no] --weights downloads/sd3 --data lerobot:my_robot
      rslwm latents check small-dino --image-size 96
    """

    frames: int = 32
    """How many."""
    batch: int = 8
    """Encoded at once when speed is measured."""

    def run(self) -> int:
        import torch

        from rslwm.compute import device
        from rslwm.data.sources.opening import open_source
        from rslwm.evals.inspection import inspect
        from rslwm.latents.check import check_encoder
        from rslwm.latents.views import to_float

        torch.set_num_threads(self.compute.threads)
        where = device(self.compute)
        encoder = self.open().to(where)
        frames = to_float(open_source(self.study().data).preview(max(self.frames, 6))).to(where)
        spread = frames[torch.linspace(0, len(frames) - 1, 6).long()]
        report = check_encoder(encoder, spread.unflatten(0, (2, 3)))
        console().print(report)
        if not report.ok:
            return 1
        figures = inspect(encoder, frames, self.batch)
        shown = Table.grid(padding=(0, 2))
        shape, channels = "x".join(map(str, figures.latents)), figures.latents[-1]
        low_mid_high = "{:.3g} | {:.3g} | {:.3g}"
        quality = "no decoder of its own"
        if figures.psnr is not None:
            quality = f"{figures.psnr:.2f} dB PSNR, {figures.ssim:.3f} SSIM"
        shown.add_row("latents of a frame", f"{shape}, {encoder.spec.bytes_per_frame:,} bytes stored")
        shown.add_row("mean of a channel", f"{low_mid_high.format(*figures.mean)} (lowest, median, highest)")
        shown.add_row("deviation of a channel", low_mid_high.format(*figures.std))
        shown.add_row("effective rank", f"{figures.effective_rank:.1f} of {channels}")
        shown.add_row("encode and decode", quality)
        speed = f"{figures.frames_per_second:.3g} frames/s, {figures.batch} at once, on {where.type}"
        shown.add_row("speed", speed)
        shown.add_row("measured on", f"{figures.frames} frames of {self.data}, {encoder.image_size} px")
        for name, value in encoder.spec.preprocessing.items():
            shown.add_row(f"record: {name}", str(value))
        console().print(shown, highlight=False)
        return 0
