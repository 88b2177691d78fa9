"""World models from the files of the published code, and from what those files don't tell."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rslwm.compute import seeded
from rslwm.data.config import DataConfig
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.adapters.kinds import published_name
from rslwm.latents.base import EncoderConfig, encoder_class
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import EXTERNAL, ExternalConfig, LatentSpace, OwnDecoder, SpaceConfig
from rslwm.model.flow import FlowConfig
from rslwm.model.published.files import PublishedAdapter, PublishedDiT
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.serialisation import ConfigError
from rslwm.tensors import take_weights
from rslwm.types import GRIPPERS, DataError, Family, end_effector_spec

ACTIONS = replace(end_effector_spec(translation=0.05 / 1.75, rotation=0.25 / 1.4, hz=2.5), gripper=GRIPPERS[1])
"""BridgeData V2 at 5 Hz with every other frame kept; 0.05 m are normalised to 1.75, 0.25 rad to 1.4."""

OPTIM = OptimConfig(steps=80_000, batch_size=64, lr=1e-4, final_lr=0.7, warmup=2_400, weight_decay=2e-3, ema=0.9995)
"""Paper section 4: 100 epochs of about 800 steps, 3 of them warm-up."""

FAMILIES: dict[str, Family] = {"semantic": "semantic", "reconstruction": "reconstruction"}
"""In front of the name of an encoder that is no part of this package."""


@dataclass(frozen=True)
class Facts:
    """What tensors don't tell."""

    objective: Literal["flow", "ddpm"]
    heads: int
    temporal: Literal["factorised", "joint"]
    views: int
    encoder: str
    """A name of the registry, path/to/file.py:Class, or FAMILY:NAME of one that is no part of this package."""
    adapter_heads: int
    decoder_heads: int
    grid: tuple[int, int]
    """Rows and columns of one view's latents."""
    image_size: int
    """Side of one view's frame in pixels."""
    max_frames: int
    options: dict[str, str] = field(default_factory=dict)
    """Choices of the encoder that aren't its defaults."""
    weights: str = ""
    """Folder of published encoders' weights, see :class:`EncoderConfig`."""

    def __post_init__(self) -> None:
        for name in ("heads", "views", "adapter_heads", "decoder_heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; there is at least 1")


def import_world_model(dit: PublishedDiT, svae: PublishedAdapter | None, facts: Facts) -> WorldModel:
    """The world model in files of the published code; ``svae`` made the transformer's latents or, if those are native
    features, decodes them.

    Raises:
        ConfigError: a fact doesn't fit the files.
        MissingWeights: the encoder is a published one, and they are not on this machine.
        DataError: the tensors are not those of the published architecture, or the two files don't belong together.
    """
    if svae and dit.channels not in (svae.channels, svae.width):
        raise DataError(f"{svae.path} holds {svae}, but {dit.path} {dit}; they don't belong together")
    told = {name: getattr(facts, name) for name in ("heads", "temporal", "views", "max_frames")}
    config = WorldModelConfig(
        dit=replace(dit.config, **told),
        objective=facts.objective,
        flow=FlowConfig(history=2, history_noise=0.3, context_level=0.01, shift_base=4096),
        action_dropout=0.1,
        alignment="outgoing",
        optim=OPTIM,
    )
    camera = ",".join(f"image_{view}" for view in range(facts.views)) if facts.views > 1 else ""
    data = DataConfig("rlds:bridge", camera=camera, image_size=facts.image_size, frame_skip=2, actions="first")
    with seeded(0, "weights that the files replace"):
        space = _space(dit, svae, facts)
        model = WorldModel(space, ACTIONS, config, data=data)
    take_weights(model.dit, dit.tensors, dit.path)
    return model.eval()


def _space(dit: PublishedDiT, svae: PublishedAdapter | None, facts: Facts) -> LatentSpace:
    """The latent space of the transformer, with the adapter's and the pixel decoder's weights."""
    native = svae is None or dit.channels == svae.width
    reference, external = _encoder(facts, svae.width if svae else dit.channels)
    config = SpaceConfig(
        reference,
        facts.image_size,
        channels=0 if native else dit.channels,
        decode=svae is not None and svae.pixels is not None,
        decoder_channels=svae.channels if svae and native and svae.pixels else 0,
        views=facts.views,
        options=facts.options,
        external=external,
        encoder=EncoderConfig(weights=facts.weights, input_size=facts.image_size),
        adapter=replace(svae.config, heads=facts.adapter_heads) if svae else AdapterConfig(),
        decoder=replace(svae.decoder, heads=facts.decoder_heads) if svae else DecoderConfig(),
    )
    try:
        space = LatentSpace(config)
    except ValueError as error:
        raise ConfigError(f"the latent space of {dit.path} can't be built: {error}") from None
    space.encoder.require_weights()  # or nobody could say later whose latents these are
    if space.encoder.decodes and svae is None:
        space.set_pixels(OwnDecoder())
    if space.spec.channels != dit.channels:
        made = space.encoder.spec.channels
        raise ConfigError(f"encoder {reference} makes {made} channels, but {dit.path} holds {dit}")
    if svae:
        pixels: Any = space.pixels
        if adapter := space.adapter or (pixels and pixels.adapter):
            take_weights(adapter, svae.tensors, svae.path, published_name)
        if svae.pixels:
            take_weights(pixels.decoder, svae.pixels.tensors, svae.path)
    return space


def _encoder(facts: Facts, channels: int) -> tuple[str, ExternalConfig]:
    """Reference of the encoder and, if it is external, what is known of its features."""
    family, _, name = facts.encoder.partition(":")
    if family in FAMILIES and name:
        return EXTERNAL, ExternalConfig(name, FAMILIES[family], facts.grid, channels)
    if encoder_class(facts.encoder).trainable:
        raise ConfigError(f"encoder {facts.encoder} is none with weights of its own; published files hold none for it")
    return facts.encoder, ExternalConfig()
