"""A latent space with pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import seeded
from rslwm.data.corpus import SeenEpisodes
from rslwm.flops import Pass, blank, count
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.perceptual import Kind, blank_perceptual
from rslwm.latents.space import LatentSpace, OwnDecoder, TrainedDecoder, TwinDecoder, open_decoder
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import OnEpisodes, Sizes, described, on_episodes, own_flops, saved_bytes, training
from rslwm.study.stages.latents import SPACE, LatentsStage, SpaceStage
from rslwm.train.latents import train_decoder
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.study.subjects import Variant


@dataclass(frozen=True, eq=False, kw_only=True)
class DecoderStage(OnEpisodes[LatentSpace]):
    """Complete a space with pixels: by its encoder's own decoder, through a compressed twin, or by one trained here."""

    kind = "decoder"

    space: SpaceStage
    latents: LatentsStage | None
    """To train on; None if nothing is trained."""
    twin: DecoderStage | None
    """The compressed space of the same encoder that a native one decodes through."""
    settings: DecoderConfig
    seed: int

    @classmethod
    def of(cls, variant: Variant) -> DecoderStage:
        config, own = variant.study.config.decoder, variant.decodes_itself
        twin = None if own else variant.twin
        if own:
            config = DecoderConfig(own=True)
        elif twin:
            config = DecoderConfig(through=twin.entry.channels)
        return cls(
            **on_episodes(variant, framewise=True),
            label=variant.label,
            space=variant.pull(SpaceStage),
            latents=None if own or twin else variant.pull(LatentsStage),
            twin=twin.pull(DecoderStage) if twin else None,
            settings=config,
            seed=0 if own or twin else variant.seed,
        )

    @property
    def seconds(self) -> float:
        return self.settings.optim.steps * 0.1 if self.latents else 1.0

    @property
    def one(self) -> Pass:
        """One view through the pixel decoder that is trained here."""
        read = described(self.space.settings).view_spec
        return decoding(self.settings, read.grid, read.channels, self.space.settings.image_size)

    @property
    def decode_flops(self) -> float:
        """Of all views of a frame."""
        views = self.space.settings.views
        if self.twin:  # behind the adapter of the space that it was trained for
            return self.twin.decode_flops + self.twin.space.compress_flops
        if self.latents:
            return views * self.one.flops
        return views * own_flops(self.space.settings)[1]

    @property
    def disk(self) -> float:
        """Bytes of the completed space, which is saved again beside every world model of it."""
        if self.twin:
            return self.twin.disk
        own = saved_bytes(self.space.settings)
        return own + 4 * self.one.parameters if self.latents else own

    @property
    def processes(self) -> int:
        return self.sharing(self.settings.optim) if self.latents else 1

    def demand(self, sizes: Sizes) -> Demand:
        if not self.latents:
            return Demand(disk=self.disk)
        config, space = self.settings, self.space.settings
        compared = max(0, config.optim.samples - config.perceptual_after)
        # A perceptual distance looks at image and target, and goes back through the image.
        more = Demand(flops=3 * compared * looking(config.perceptual, space.image_size), disk=saved_bytes(space))
        return self.reading(config.optim.samples, training(config.optim, self.one) + more)

    def run(self, work: Workspace) -> None:
        space = LatentSpace.load(work.folder(self.space) / SPACE)  # a copy to complete
        facts: dict[str, Any] = {"training_seconds": 0.0, "terms": {}}
        if self.twin:
            space.set_pixels(TwinDecoder.of(work.open(self.twin)))
            facts = work.facts(self.twin)
        elif self.latents:
            corpus, config = self.corpus(work), self.settings
            with seeded(self.seed, "decoder weights"):
                decoder = open_decoder(config, space.view_spec, self.space.settings.image_size)
            trained = train_decoder(
                corpus, work.open(self.latents), decoder, config, self.seed, work.out, self.compute, work.progress
            )
            space.set_pixels(TrainedDecoder(decoder.cpu()))
            facts = trained.facts
        else:
            space.set_pixels(OwnDecoder())
        space.save(work.out / SPACE)
        SeenEpisodes.of(self.corpus(work)).write(work.out / SPACE)
        work.write_facts(**facts)

    def open(self, work: Workspace) -> LatentSpace:
        return LatentSpace.load(work.out / SPACE)


@cache
def decoding(config: DecoderConfig, grid: tuple[int, int], channels: int, image_size: int) -> Pass:
    """One view of a frame through a pixel decoder of ours."""
    read = LatentSpec("latents", "floor", grid, channels)
    return count(lambda: open_decoder(config, read, image_size), lambda decoder: decoder(blank(1, 1, *grid, channels)))


@cache
def looking(kind: Kind, image_size: int) -> float:
    """FLOPs of one frame's activations in the network of a perceptual distance; 0 for none."""
    if kind == "none":
        return 0.0
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        distance = blank_perceptual(kind).eval()
        list(distance.maps(torch.empty(1, 3, image_size, image_size)))
    return float(counter.get_total_flops())
