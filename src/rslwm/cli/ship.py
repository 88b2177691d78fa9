"""rslwm ship."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.filesize import decimal
from rich.table import Table

from rslwm.cli.output import console
from rslwm.study.ship import Packed, ship


@dataclass
class Ship:
    """Pack the world models of a finished comparison, with their latent spaces, a card each: small enough to give away.

    Weights take 8 bits, and the parts of encoders that only training uses stay behind. The card holds data, command,
    scores and the hash of every file; what it costs to pack is measured on a few episodes of the simulator.

    For instance:
      rslwm ship runs/tabletop --as tabletop --out src/rslwm/shipped     what `small-vae@tabletop` then names
      rslwm ship runs/mine --as mine --seed 1                            the second training of every space
    """

    run_folder: tyro.conf.Positional[Path]
    """What `rslwm compare` was given as --out."""
    collection: Annotated[str, tyro.conf.arg(name="as")]
    """What they are called together: a name that isn't a number."""
    out: Path | None = None
    """Folder to write to, below a folder of the collection's name; RUN/shipped if it isn't given."""
    seed: int = 0
    """Which training of every space; 0 is the first."""

    def run(self) -> None:
        out = self.out or self.run_folder / "shipped"
        screen, packed = console(), list[Packed]()
        for each in ship(self.run_folder, self.collection, out, self.seed):
            screen.print(f"{each.folder}: {decimal(each.nbytes)}", markup=False, highlight=False, soft_wrap=True)
            packed.append(each)
        screen.print("", _table(packed), f"\nall together: {decimal(sum(each.nbytes for each in packed))}")


def _table(packed: list[Packed]) -> Table:
    """What packing cost, where it was measured."""
    table = Table(title="PSNR in dB", title_justify="left", box=None, header_style="dim")
    for heading in ("world model", "bytes", "rollout", "before", "encode-decode", "before", "copy last frame"):
        table.add_column(heading)
    for each in packed:
        row, known = (each.card.name, decimal(each.nbytes)), each.card.check
        if known is None:
            table.add_row(*row, "not measured: its data aren't the simulator's")
            continue
        numbers = known.rollout, known.rollout_before, known.decoded, known.decoded_before, known.copied
        table.add_row(*row, *(f"{number:.3f}" for number in numbers))
    return table
