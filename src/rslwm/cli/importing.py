"""rslwm import semantic-wm"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from rslwm.cli.output import console
from rslwm.model.published.files import PublishedAdapter, PublishedDiT
from rslwm.model.published.semantic_wm import FAMILIES, Facts, import_world_model
from rslwm.serialisation import ConfigError, from_dict
from rslwm.study.entry import Entry

PATCHES = 16
"""Patches a side of a frame, in every row of the paper."""
UNUSED = 1
"""Heads of a part that the files don't have."""


@dataclass
class SemanticWM:
    """Turn files of the published code (DiT-*.pt, adapter_*.pt) into a checkpoint folder. No code in them is run.

    Sizes are read off the tensors. Without the flags for what those can't tell, the command says which it needs, and
    what the paper and its code say of them.

    For instance:
      rslwm import semantic-wm downloads/vjepa
      rslwm import semantic-wm downloads/vjepa --adapter adapter_vjepa_image_96.pt --out runs/vjepa --objective flow \
--heads 6 --temporal factorised --views 1 --encoder "vjepa2.1[antialias=no]" --adapter-heads 16 --decoder-heads 4
    """

    folder: tyro.conf.Positional[Path]
    """Folder of the files."""
    dit: str = "DiT-*.pt"
    """The transformer's file, if there are several."""
    adapter: str = "adapter_*.pt"
    """The adapter's file, if there are several; none leaves it out."""
    out: Path | None = None
    """Checkpoint folder to write; runs/NAME OF THE TRANSFORMER'S FILE if it isn't given."""
    objective: Literal["flow", "ddpm"] | None = None
    """What the transformer was trained with."""
    heads: int | None = None
    """Attention heads of the transformer."""
    temporal: Literal["factorised", "joint"] | None = None
    """Whom a token attends to over time: its own position, or all."""
    views: int | None = None
    """Camera views side by side in a frame; an adapter and its pixel decoder work on each alone."""
    encoder: str | None = None
    """What makes the features: a name of `rslwm latents list` with its choices, path/to/file.py:Class, or
    semantic:NAME or reconstruction:NAME, another program."""
    weights: str = ""
    """Folder of published encoders' weights, a subfolder for each name; else the hub's cache is looked into."""
    adapter_heads: int | None = None
    """Attention heads of the adapter."""
    decoder_heads: int | None = None
    """Attention heads of the pixel decoder."""
    grid: tuple[int, ...] = ()
    """Rows and columns of a view's latents if another program makes them; 16 patches a side if it isn't given."""
    image_size: int = 256
    """Side of a view's frame in pixels."""
    max_frames: int = 10
    """Frames that temporal attention sees."""

    def run(self) -> None:
        dit = PublishedDiT.read(self._only(self.dit))
        absent = "*" in self.adapter and not any(self.folder.glob(self.adapter))  # and not asked for by its name
        svae = None if absent or self.adapter == "none" else PublishedAdapter.read(self._only(self.adapter))
        model = import_world_model(dit, svae, self._facts(dit, svae))
        out = self.out or Path("runs") / dit.path.stem
        model.save(out)
        contents = f"{dit}, {svae}" if svae else f"{dit}"
        console().print(f"checkpoint: {out}: {contents}", markup=False, highlight=False, soft_wrap=True)

    def _only(self, pattern: str) -> Path:
        found = sorted(self.folder.glob(pattern))
        if not found:
            raise ConfigError(f"{self.folder} has no {pattern}")
        if len(found) > 1:
            flag = "--dit" if pattern == self.dit else "--adapter"
            raise ConfigError(f"{self.folder} has {', '.join(f.name for f in found)}; name one of them with {flag}")
        return found[0]

    def _facts(self, dit: PublishedDiT, svae: PublishedAdapter | None) -> Facts:
        """What the tensors don't tell, from the flags and from what the adapter's file says of itself; a refusal lists
        all that is missing."""
        side = PATCHES * dit.config.patch
        facts = {name: getattr(self, name, None) for name in Facts.__dataclass_fields__}
        facts["grid"] = self.grid or (side, side)
        facts["encoder"], facts["options"] = self._named()
        facts["weights"] = str(Path(self.weights).expanduser().resolve()) if self.weights else ""
        facts["adapter_heads"] = _agreed("--adapter-heads", self.adapter_heads, svae.heads) if svae else UNUSED
        facts["decoder_heads"] = UNUSED
        if svae and svae.pixels:
            facts["decoder_heads"] = _agreed("--decoder-heads", self.decoder_heads, svae.decoder_heads)
        questions = _questions(dit, svae)
        if missing := [f"  {flag:<29} {text}" for name, (flag, text) in questions.items() if facts[name] is None]:
            contents = f"{dit.path} holds {dit}" + (f"; {svae.path} {svae}" if svae else "")
            raise ConfigError("\n".join([f"{contents}. Tensors don't tell the rest; add:", *missing]))
        return from_dict(Facts, facts, "rslwm import semantic-wm")

    def _named(self) -> tuple[str | None, dict[str, str]]:
        """The encoder and its choices."""
        if self.encoder is None or self.encoder.partition(":")[0] in FAMILIES:
            return self.encoder, {}
        entry = Entry.parse(self.encoder)
        if entry.channels or entry.seed or "=" in self.encoder.partition("[")[0]:
            raise ConfigError(f"--encoder {self.encoder}: a name and its choices only; the files tell of an adapter")
        return entry.reference, dict(entry.options)


def _agreed(flag: str, said: int | None, stored: int | None) -> int | None:
    if said and stored and said != stored:
        raise ConfigError(f"{flag} is {said}, but the adapter's file says {stored}; leave the flag out")
    return said or stored


def _questions(dit: PublishedDiT, svae: PublishedAdapter | None) -> dict[str, tuple[str, str]]:
    """What has to be said: the flag of each field, and what is known of it."""
    made = f"; the adapter's file says {svae.encoder}" if svae and svae.encoder else ""
    reference = f"'vjepa2.1[antialias=no]', file.py:Class, semantic:NAME of another program{made}"
    return {
        "objective": ("--objective flow|ddpm", "the paper says flow; the default of its code is ddpm"),
        "heads": ("--heads N", f"as the paper chooses them: {dit.usual_heads}"),
        "temporal": ("--temporal factorised|joint", "the default of the paper's code is factorised"),
        "views": ("--views N", "1, or 3 for a model finetuned on three cameras"),
        "encoder": ("--encoder REF", reference),
        "adapter_heads": ("--adapter-heads N", "the released adapter has 16"),
        "decoder_heads": ("--decoder-heads N", "the paper says 4; the default of its code is 1"),
    }
