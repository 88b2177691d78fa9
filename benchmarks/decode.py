"""How fast generated latents become pixels: in batches against frame by frame, and what leaving it out saves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.comparison import Comparison, Paired, main
from rslwm.bench import generation, latents
from rslwm.bench.measure import Measurement, cast, measure
from rslwm.latents.space import LatentSpace


@dataclass
class Decode(latents.Decode, generation.Rollout, Paired):
    """Pair decoding in one batch with decoding frame by frame, and rollouts that stay latent with decoded ones.

    For instance:
      python -m benchmarks.decode --decoders sub-pixel --frames 40 --out runs/bench
      python -m benchmarks.decode --size demo --grid 8 --channels 16 --image-size 64 --decoders sub-pixel
    """

    def compare(self, folder: Path) -> list[Comparison]:
        """Two comparisons a pixel decoder.

        Raises:
            ConfigError: no such decoder.
        """
        rolling = generation.Rollouts(self).case(self.steps)
        found = []
        for kind in self.decoders:
            space = self.decodable(kind)
            batch = replace(self.decoding(space, kind), name="one batch")
            single = cast(partial(frame_by_frame, space, self.clips()), self.compute)
            cases = [batch, replace(batch, name="frame by frame", work=single), rolling]
            together, apart, rolled = measure(cases, self.rounds)
            found.append(Comparison(f"{kind} decoder", together, apart))
            found.append(self._leaving_out(kind, rolled, together))
        return found

    def _leaving_out(self, kind: str, rolled: Measurement, decoded: Measurement) -> Comparison:
        both = [made + shown for made, shown in zip(rolled.seconds, decoded.seconds, strict=True)]
        left_out = Measurement("latents only", rolled.seconds, rolled.items, "frames")
        shown = Measurement("latents and pixels", both, rolled.items, "frames")
        share = {"share of the rollout that decoding takes": 1 - shown.rate / left_out.rate}
        return Comparison(f"rollout without the {kind} decoder", left_out, shown, quality=share)


def frame_by_frame(space: LatentSpace, latents: Tensor) -> Tensor:
    """What decoding each frame as it comes does: (B, T, h, w, C) -> (B, T, H, W, 3)."""
    return torch.cat([space.decode(frame) for frame in latents.split(1, 1)], 1)


if __name__ == "__main__":
    main(Decode)
