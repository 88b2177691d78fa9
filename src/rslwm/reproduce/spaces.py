"""Which latent space of ours stands for which of the paper's: the one place that says so."""

from __future__ import annotations

from dataclasses import dataclass

from rslwm.study.entry import Entry


@dataclass(frozen=True)
class Counterpart:
    """Names as a study writes them: the published network itself and, if there is one, the small space that is trained
    for the same idea, which isn't that network."""

    published: str
    small: str = ""


SPACES = {
    "VAE": Counterpart("sd3-vae", "small-vae"),
    "VA-VAE": Counterpart("va-vae", "small-vavae"),
    "Cosmos": Counterpart("cosmos-ci16", "small-cosmos"),
    "V-JEPA2.1": Counterpart("vjepa2.1", "small-vjepa"),
    "V-JEPA2.1_d96": Counterpart("vjepa2.1+96", "small-vjepa+16"),
    "Web-DINO": Counterpart("web-dino", "small-dino"),
    "Web-DINO_d16": Counterpart("web-dino+16"),
    "Web-DINO_d64": Counterpart("web-dino+64"),
    "Web-DINO_d96": Counterpart("web-dino+96", "small-dino+16"),
    "Web-DINO_d256": Counterpart("web-dino+256"),
    "SigLIP2": Counterpart("siglip2", "small-siglip"),
    "SigLIP2_d96": Counterpart("siglip2+96", "small-siglip+16"),
}
"""By the paper's name."""


def native(space: str) -> str:
    """The paper's name of the same space without its adapter; the space's own if it has none."""
    return space.partition("_d")[0]


def stands_for(entry: Entry) -> str:
    """The paper's name of what a row of a study is or stands for, whatever its alias and options; empty if nothing."""
    reference = entry.reference.partition("@")[0]  # the rest is where a space was shipped from
    ours = f"{reference}+{entry.channels}" if entry.channels else reference
    return next((name for name, known in SPACES.items() if ours in (known.published, known.small)), "")
