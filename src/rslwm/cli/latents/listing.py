"""rslwm latents list"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import tyro
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rslwm.cli.output import console, counting
from rslwm.data.config import DataConfig
from rslwm.latents.base import EncoderConfig

if TYPE_CHECKING:
    from rslwm.latents.base import Encoder

DIGITS = 12
"""Of a revision, in the table."""


@dataclass
class List:
    """List the encoders that exist: the built-in ones and those of installed plug-ins.

    GFLOP are of encoding one frame, counted, two a multiply-add; those of published encoders at --encoder.input-size,
    whether or not their weights are here. Your own need not be installed: path/to/file.py:Class does everywhere.

    For instance:
      rslwm latents list
      rslwm latents list sd3-vae[shift=no]        its choices, its preprocessing record, and how to get its weights
    """

    name: tyro.conf.Positional[str] = ""
    """Say all about this one."""
    verbose: bool = False
    """Say all about every one."""
    image_size: int = DataConfig.image_size
    """Pixels of the frames; published encoders resize them."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def run(self) -> None:
        from rslwm.latents.base import ENCODERS
        from rslwm.serialisation import ConfigError
        from rslwm.study.config import StudyConfig
        from rslwm.study.entry import Entry
        from rslwm.types import DataError

        config = StudyConfig(data=DataConfig(image_size=self.image_size), encoder=self.encoder)
        found: dict[str, Encoder] = {}
        broken: dict[str, str] = {}
        for name in [self.name] if self.name else [*ENCODERS]:
            try:
                found[name] = Entry.parse(name).open(config).encoder
            except (ConfigError, DataError) as error:
                if self.name:
                    raise
                broken[name] = str(error)
        screen, rows = console(), list[tuple[str, ...]]()
        with counting("FLOPs", len(found)) as bar:
            for encoder in found.values():
                rows.append(_row(encoder))
                bar(len(rows))
        screen.print(_table(rows))
        if self.name or self.verbose:
            for encoder in found.values():
                screen.print("", _all_about(encoder))
        else:
            screen.print("\nNAME+16 puts an adapter to 16 channels behind an encoder. More: rslwm latents list NAME")
        for name, why in broken.items():
            screen.print(f"{name} can't be opened: {why}", markup=False)


def _table(rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))  # fits 120 columns
    for heading in ("encoder", "family", "latents", "params", "GFLOP", "B/frame", "weights", "revision", "licence"):
        table.add_column(heading, justify="right" if heading in ("params", "GFLOP", "B/frame") else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _row(encoder: Encoder) -> tuple[str, ...]:
    from rslwm.latents.published.base import MissingLibrary

    spec = encoder.spec
    try:
        flops = f"{encoder.flops()[0] / 1e9:.1f}"
    except (ImportError, MissingLibrary):  # the library that holds the network is an extra
        flops = "?"
    return (
        spec.name,
        spec.family,
        "x".join(map(str, (*spec.grid, spec.channels))),
        f"{spec.parameters / 1e6:.1f} M",
        flops,
        f"{spec.bytes_per_frame:,}",
        encoder.weights_state()[0],
        spec.revision[:DIGITS] or "-",
        spec.licence,
    )


def _all_about(encoder: Encoder) -> RenderableType:
    """Choices, preprocessing record, and where the weights are or come from."""
    spec = encoder.spec
    table = Table.grid(padding=(0, 2))
    for name, value in spec.preprocessing.items():
        table.add_row(f"  {name}", escape(str(value)))
    title = Text(f"{spec.name}, revision {spec.revision or '-'}", style="bold")
    parts: list[RenderableType] = [title, _about(encoder), "  preprocessing record:", table]
    if options := getattr(encoder, "options", None):
        chosen = ", ".join(f"{name}={value}" for name, value in asdict(options).items())
        parts.append(Text(f"  choices: {spec.name}[{chosen}]"))
    if place := encoder.weights_state()[1]:
        parts.append(Text(f"  weights: {place}"))
    return Group(*parts)


def _about(encoder: Encoder) -> Text:
    first = (type(encoder).__doc__ or "").partition("\n\n")[0]
    return Text(textwrap.indent(" ".join(first.split()), "  "))
