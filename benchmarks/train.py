"""How fast a world model trains from stored latents, against decoding and encoding at every step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import profile
from benchmarks.comparison import Comparison, Paired, main
from benchmarks.straightforward.dit import StraightforwardDiT
from benchmarks.straightforward.training import StraightforwardTraining
from benchmarks.video import VideoBenchmark
from rslwm.bench import training
from rslwm.bench.measure import measure
from rslwm.compute import precision
from rslwm.data.clips import ClipBatch
from rslwm.model.flow import FlowMatching


@dataclass
class Train(training.Train, VideoBenchmark, Paired):
    """Pair training from stored latents with clips that are decoded and encoded at every step.

    Same random weights, clips and noise on both sides; the encoder has the size of a ViT-L. Also measures the step
    alone, and bfloat16 against float32.

    For instance:
      python -m benchmarks.train --profile --rounds 10 --out runs/bench
      python -m benchmarks.train --size B --batch 4 --accumulate 2 --checkpoint-activations
    """

    profile: bool = False
    """Whether it is also told where the time of a step goes, by kind of operation."""

    def compare(self, folder: Path) -> list[Comparison]:
        """All of the same rounds: against encoding at every step, against the same step from stored latents, and, where
        ours computes in bfloat16, against itself in float32."""
        pair = PairedTrainings(self, folder)
        ours = replace(pair.case(self.compute), name=f"ours, {precision(self.compute)}".replace("torch.", ""))
        assert ours.flops is not None
        whole = ours.flops + ours.items * self.frames * pair.encoder.frame_flops
        alone = replace(ours, name="straightforward step", work=partial(pair.baseline, False))
        encoding = replace(ours, name="decode and encode, step", work=partial(pair.baseline, True), flops=whole)
        baselines, bounds = {"training": encoding, "step alone": alone}, {"training": whole / ours.flops}
        if precision(self.compute) == torch.bfloat16:
            exact = pair.case(replace(self.compute, dtype="float32"))
            baselines["precision"] = replace(exact, name="ours, float32")
        measured, *others = measure([ours, *baselines.values()], self.rounds)
        if self.profile:
            profile.publish("train-profile", profile.shares(ours.work), self.out)
        return [
            Comparison(f"{title}, DiT-{self.size}", measured, other, bounds.get(title))
            for title, other in zip(baselines, others, strict=True)
        ]


class PairedTrainings(training.Trainings):
    """Ours and the straightforward one, from the same weights, on the same clips with the same noise."""

    def __init__(self, bench: Train, folder: Path) -> None:
        super().__init__(bench, bench.clips(folder))
        self.encoder, self.videos = bench.vit(), bench.videos(folder)
        dit = self.model.dit
        assert isinstance(self.model.objective, FlowMatching)
        published = StraightforwardDiT(dit.config, bench.channels, self.model.action_spec.dims).to(bench.where)
        published.load_state_dict(dit.state_dict())
        self.published = StraightforwardTraining(published, self.model.objective, bench.optim, bench.compute)

        self.encode = False

    def latents(self, clips: ClipBatch) -> Tensor:
        return self.videos.latents(clips.windows, self.encoder) if self.encode else super().latents(clips)

    def baseline(self, encode: bool) -> None:
        """One step of the straightforward one, from stored latents or from clips that are decoded and encoded now."""
        self.encode = encode
        self.published.step(self.batch)
        self.encode = False


if __name__ == "__main__":
    main(Train)
