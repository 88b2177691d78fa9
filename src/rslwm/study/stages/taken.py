"""A latent space that was trained elsewhere, taken as it is: encoder, adapter, normaliser and pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rslwm.data.corpus import SEEN_FILE, SeenEpisodes, require_held_out
from rslwm.data.fingerprint import files_key
from rslwm.latents.space import LatentSpace, SpaceConfig, space_folder
from rslwm.run.stage import Demand, Stage, Workspace
from rslwm.serialisation import OPERATIONAL, ConfigError
from rslwm.shipping import CARD, Card
from rslwm.study.stages.base import Sizes, described, on_episodes, own_flops, saved_bytes
from rslwm.study.stages.decoder import DecoderStage, decoding
from rslwm.study.stages.encoder import EncoderStage
from rslwm.study.stages.latents import SPACE, KnownSpace, SpaceStage, compressing
from rslwm.types import DataError

if TYPE_CHECKING:
    from rslwm.study.subjects import Variant


@dataclass(frozen=True, eq=False, kw_only=True)
class TakenSpaceStage(KnownSpace):
    """Take a copy of a space, so that what is made with it stays next to the weights that it belongs to. Refuses one
    that was trained on episodes which are held out here, or that doesn't say on which."""

    kind = "taken-space"
    seconds = 2.0

    path: str = field(metadata=OPERATIONAL)
    """The folder that was named: of the space, or of a world model."""
    files: str
    """What is in the space's folder, and which episodes it has seen."""
    source: str
    """Of the encoder's code and published weights."""

    @classmethod
    def of(cls, variant: Variant) -> TakenSpaceStage:
        """Raises :class:`ConfigError` if the space shows no pixels."""
        if not variant.space.decode:
            name = variant.entry.name
            raise ConfigError(f"latents: {name} has no pixel decoder; `rslwm latents train` trains spaces with one")
        place, source = Path(variant.entry.folder), variant.entry.source() + variant.described.encoder.spec.revision
        space, told = space_folder(place), _told(place)
        return cls(
            **on_episodes(variant, framewise=True),
            label=variant.entry.name,
            settings=variant.space,
            path=str(place),
            files=f"{files_key(space)} {files_key(told) if told else ''}",
            source=source,
        )

    @property
    def decode_flops(self) -> float:
        """Of all views of a frame."""
        return showing(self.settings)

    @property
    def disk(self) -> float:
        """Bytes of the space, which is saved again beside every world model of it."""
        return saved_bytes(self.settings)

    def demand(self, sizes: Sizes) -> Demand:
        return Demand(disk=self.disk, memory=2 * self.spec.parameters)

    def run(self, work: Workspace) -> None:
        place = Path(self.path)
        seen = seen_by(place)
        if seen is None:
            raise DataError(
                f"latents: {place} doesn't say which episodes it was trained on (it has no {SEEN_FILE}), and some "
                "could be held out here. Train it again with `rslwm latents train`, or name its world model's folder"
            )
        require_held_out(self.corpus(work), seen, f"latents: {place}", "train the space here")
        LatentSpace.load(place).save(work.out / SPACE)
        seen.write(work.out / SPACE)
        work.write_facts(**self._known(place))

    def _known(self, place: Path) -> dict[str, Any]:
        """What an encoder's stage notes; of its training what the card says, None if nothing does."""
        costs = Card.load(place).costs if (place / CARD).is_file() else {}
        return {
            "parameters": described(self.settings).encoder.spec.parameters,
            "flops_per_frame": costs.get("encoder_flops_per_frame", self.encode_flops),
            "training_flops": costs.get("encoder_training_flops"),
            "frames_seen": costs.get("encoder_frames_seen"),
        }


def _told(place: Path) -> Path | None:
    """The file that says on which episodes the space in a folder was trained: beside it, or in its world model's."""
    space = space_folder(place)
    return next((file for folder in (space, space.parent) if (file := folder / SEEN_FILE).is_file()), None)


def seen_by(place: Path) -> SeenEpisodes | None:
    """The episodes that the space in a folder was trained on, which may be a world model's; None if nobody says."""
    told = _told(place)
    return SeenEpisodes.read(told.parent) if told else None


def showing(config: SpaceConfig) -> float:
    """FLOPs of all views of a frame through the way to pixels that a whole space has."""
    space = described(config)
    if config.decoder.own and space.encoder.decodes:
        return config.views * own_flops(config)[1]
    native, channels = space.encoder.spec, config.decoder_channels or space.view_spec.channels
    flops = decoding(config.decoder, native.grid, channels, config.image_size).flops
    if config.decoder_channels:  # behind the adapter of the space that it was trained for
        flops += compressing(config.adapter, prod(native.grid), native.channels, channels).flops
    return config.views * flops


TAKEN: dict[type[Stage], type[Stage]] = dict.fromkeys((EncoderStage, SpaceStage, DecoderStage), TakenSpaceStage)
"""What stands in for which stage."""
