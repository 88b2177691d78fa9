"""How a latent space is named on the command line."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from rslwm.compute import seeded
from rslwm.evals.rows import TRUTH
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import Encoder, encoder_class
from rslwm.latents.space import LatentSpace, SpaceConfig, describe
from rslwm.registry import code_of
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig

_PATTERN = re.compile(
    r"(?:(?P<alias>[^=\[]+)=)?(?P<reference>[^=@+\[]+?)(?:\[(?P<options>[^\[\]]*)\])?"
    r"(?:\+(?P<channels>\d+))?(?:@(?P<seed>\d+))?"
)
_NAME = re.compile(r"\w([\w .+-]*\w)?")
"""A row's name is also that of its clips and of its checkpoint's folder, so ``..`` and ``a/b`` are none."""


@dataclass(frozen=True)
class Entry:
    """One row of a study: ``(ALIAS=)ENCODER([CHOICE=VALUE,...])(+CHANNELS)(@SEED)``.

    ``encoder`` is a name of the registry or path/to/file.py:Class; choices are its options; ``+16`` puts an S-VAE
    adapter to 16 channels behind it; the seed is the row's first one (default 0).
    """

    name: str
    reference: str
    channels: int = 0
    seed: int = 0
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Raises :class:`ConfigError` if the text has another form."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None or match["channels"] == "0":
            raise ConfigError(
                f"latents: {text!r} is not of the form (ALIAS=)ENCODER([CHOICE=VALUE,...])(+CHANNELS)(@SEED), for "
                "instance small-vae, small-dino+16, twin=small-vae@1, sd3-vae[shift=no] or my_encoder.py:MyEncoder"
            )
        reference, channels, options = match["reference"], int(match["channels"] or 0), _options(text, match["options"])
        if ".py:" in reference:
            path, _, attribute = reference.rpartition(":")
            reference = f"{Path(path).expanduser().resolve()}:{attribute}"
        short = "-".join([reference.rpartition(":")[2], *(f"{name}-{Path(value).name}" for name, value in options)])
        name = match["alias"] or (f"{short}+{channels}" if channels else short)
        if not _NAME.fullmatch(name) or name == TRUTH:
            raise ConfigError(
                f"latents: {name!r} can't name a latent space, since files are called after it. Give it an alias of "
                f"letters, digits, blanks and . - + _ inside, for instance mine={reference}"
            )
        return cls(name, reference, channels, int(match["seed"] or 0), options)

    @property
    def encoder(self) -> type[Encoder]:
        """The class that the reference names; raises what :func:`encoder_class` does."""
        return encoder_class(self.reference)

    def space(self, config: StudyConfig) -> SpaceConfig:
        """The space without its pixel decoder; settings that it doesn't use stay at their defaults and out of keys."""
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
        """The space as far as it is known before anything runs; raises :class:`UnknownName` or :class:`ConfigError` if
        nothing answers to the reference, or it can't be built with this configuration."""
        space = self.space(config)
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
