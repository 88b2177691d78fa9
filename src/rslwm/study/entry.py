"""How a latent space is named on the command line."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from rslwm.compute import seeded
from rslwm.evals.rows import TRUTH
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import Encoder, encoder_class
from rslwm.latents.space import SPACE_FILE, LatentSpace, SpaceConfig, describe, space_folder
from rslwm.registry import code_of
from rslwm.serialisation import ConfigError, load
from rslwm.shipping import NAME, located
from rslwm.study.config import StudyConfig

_PATTERN = re.compile(
    r"(?:(?P<alias>[^=\[]+)=)?(?P<reference>[^=@+\[]+?)(?:\[(?P<options>[^\[\]]*)\])?"
    r"(?:\+(?P<channels>\d+))?(?:@(?P<seed>\d+))?"
)
_ELSEWHERE = re.compile(r"(?:(?P<alias>[^=\[]+)=)?(?P<place>[^=\[]+?)(?:@(?P<seed>\d+))?")
"""A space that is there: the name of a shipped one, or a path."""
_NAME = re.compile(r"\w([\w .+-]*\w)?")
"""A row's name is also that of its clips and of its checkpoint's folder, so ``..`` and ``a/b`` are none."""


@dataclass(frozen=True)
class Entry:
    """One row of a study: ``(ALIAS=)ENCODER([CHOICE=VALUE,...])(+CHANNELS)(@SEED)``, which the study trains, or
    ``(ALIAS=)SPACE(@SEED)``, which it takes as it is.

    ``encoder`` is a name of the registry or path/to/file.py:Class; choices are its options; ``+16`` puts an S-VAE
    adapter to 16 channels behind it; ``space`` is NAME@COLLECTION, shipped, or the path of a folder (with a / in it);
    the seed is the row's first one (default 0).
    """

    name: str
    reference: str
    channels: int = 0
    seed: int = 0
    options: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    """Where the space is, or the world model that it is in, if it isn't trained here."""

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Raises :class:`ConfigError` if the text has another form or the folder holds no space,
        :class:`rslwm.registry.UnknownName` if nothing of that name is shipped, and :class:`DataError` if a file of it
        isn't what its card says."""
        if found := _elsewhere(text.strip()):
            return found
        match = _PATTERN.fullmatch(text.strip())
        if match is None or match["channels"] == "0":
            raise ConfigError(
                f"latents: {text!r} is not of the form (ALIAS=)ENCODER([CHOICE=VALUE,...])(+CHANNELS)(@SEED), for "
                "instance small-vae, small-dino+16, twin=small-vae@1, sd3-vae[shift=no] or my_encoder.py:MyEncoder, "
                "nor NAME@COLLECTION or a path, for a space that is trained already"
            )
        reference, channels, options = match["reference"], int(match["channels"] or 0), _options(text, match["options"])
        if ".py:" in reference:
            path, _, attribute = reference.rpartition(":")
            reference = f"{Path(path).expanduser().resolve()}:{attribute}"
        short = "-".join([reference.rpartition(":")[2], *(f"{name}-{Path(value).name}" for name, value in options)])
        name = match["alias"] or (f"{short}+{channels}" if channels else short)
        _require_name(name, reference)
        return cls(name, reference, channels, int(match["seed"] or 0), options)

    @property
    def encoder(self) -> type[Encoder]:
        """The class that the reference or the folder's space names; raises what :func:`encoder_class` does."""
        return encoder_class(self._there.reference if self.folder else self.reference)

    @property
    def image_size(self) -> int:
        """Pixels of the frames of a space that is there; 0 for one that is still to be trained."""
        return self._there.image_size if self.folder else 0

    @cached_property
    def _there(self) -> SpaceConfig:
        """What the folder says of its space."""
        return load(SpaceConfig, space_folder(self.folder) / SPACE_FILE)

    def space(self, config: StudyConfig) -> SpaceConfig:
        """The space without its pixel decoder; settings that it doesn't use stay at their defaults and out of keys. One
        that is there has its own, and none of the study's concern it; :class:`ConfigError` if its frames are others
        than the study's."""
        if self.folder:
            return _fitting(self.name, self._there, config)
        return SpaceConfig(
            self.reference,
            config.data.image_size,
            self.channels,
            views=config.data.views,
            options=dict(self.options),
            encoder=self.encoder.settings(config.encoder),
            adapter=config.adapter if self.channels else AdapterConfig(),
        )

    def open(self, config: StudyConfig) -> LatentSpace:
        """The space as far as it is known before anything runs, so one that is there with its weights; raises
        :class:`UnknownName` or :class:`ConfigError` if nothing answers to the reference, or it can't be built with this
        configuration, and what :meth:`LatentSpace.load` raises."""
        space = self.space(config)
        if self.folder:
            return LatentSpace.load(self.folder)
        try:
            with seeded(0, "check"):
                return describe(space)
        except ValueError as error:
            raise ConfigError(f"latents: {self.name} can't be built: {error}") from error

    def check(self, config: StudyConfig) -> None:
        """Encode a black frame, so that before anything runs an encoder is refused whose latents aren't what its spec
        declares (:class:`ConfigError`), or whose weights are missing or something else (:class:`DataError`)."""
        encoder, size = self.open(config).encoder, config.data.image_size
        spec = encoder.spec
        with torch.no_grad():
            shape = encoder.encode(torch.zeros(1, 1, size, size, 3)).shape
        if shape != (1, 1, *spec.grid, spec.channels):
            raise ConfigError(
                f"{self.name} encodes one frame to {tuple(shape)}, but its spec declares (1, 1, h, w, C) with grid "
                f"{spec.grid} and {spec.channels} channels"
            )

    def source(self) -> str:
        """The encoder's version and, so that editing a plug-in invalidates what was made with it, its code's."""
        return f"{self.encoder.version}{code_of(self.encoder)}"


def _elsewhere(text: str) -> Entry | None:
    """A space that is there, if the text names one; raises what :meth:`Entry.parse` does."""
    match = _ELSEWHERE.fullmatch(text)
    if match is None or ".py:" in (place := match["place"]) or not ("/" in place or re.fullmatch(NAME, place)):
        return None
    folder = located(Path(place).expanduser()).absolute()
    if not (file := space_folder(folder) / SPACE_FILE).is_file():
        raise ConfigError(f"latents: {text!r}: {file} does not exist: the folder holds no latent space")
    _require_name(name := match["alias"] or (folder.name if "/" in place else place.rpartition("@")[0]), place)
    return Entry(name, place, 0, int(match["seed"] or 0), folder=str(folder))


def _fitting(name: str, space: SpaceConfig, config: StudyConfig) -> SpaceConfig:
    data, remedy = config.data, "set it so, or train a space here"
    if space.image_size != data.image_size:
        raise ConfigError(
            f"data.image_size is {data.image_size}, but the space {name} has {space.image_size}; {remedy}"
        )
    if space.views != data.views:
        cameras = f"data.camera {data.camera!r} is {data.views} camera(s), but the space {name} was trained on"
        raise ConfigError(f"{cameras} {space.views}; name as many, in the same order, or train a space here")
    return space


def _require_name(name: str, reference: str) -> None:
    if not _NAME.fullmatch(name) or name == TRUTH:
        raise ConfigError(
            f"latents: {name!r} can't name a latent space, since files are called after it. Give it an alias of "
            f"letters, digits, blanks and . - + _ inside, for instance mine={reference}"
        )


def _options(text: str, written: str | None) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in (written or "").split(",") if part.strip()]
    for name, equals, value in pairs:
        if not (name.strip() and equals and value.strip()):
            raise ConfigError(f"latents: {text!r}: {name!r} is not of the form CHOICE=VALUE, for instance shift=no")
    return tuple(sorted((name.strip(), value.strip()) for name, _, value in pairs))


def parse_entries(config: StudyConfig) -> list[Entry]:
    """The study's rows. Raises :class:`ConfigError` if there is none, a malformed one, or two of the same name."""
    entries = [Entry.parse(text) for text in config.latents]
    if not entries:
        raise ConfigError("latents: nothing to compare; name at least one latent space")
    if config.seeds < 1:
        raise ConfigError(f"seeds: {config.seeds} trainings of a space leave nothing to measure; 1 or more")
    for name, count in Counter(entry.name for entry in entries).items():
        if count > 1:
            raise ConfigError(f"latents: {name!r} occurs twice; give one of them an alias: other-name={name}@1")
    return entries
