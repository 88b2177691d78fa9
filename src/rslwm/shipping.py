"""World models that come with the package, by name; and the card of one that was packed to be given away."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rslwm.files import read_json, sha256, write_whole
from rslwm.hub import Place
from rslwm.registry import UnknownName
from rslwm.serialisation import ConfigError, from_dict, to_dict
from rslwm.types import DataError

SHIPPED = Path(__file__).parent / "shipped"
"""A folder for each collection, and in it one for each world model, of its name."""
CARD = "card.json"
README = "README.md"
"""The hub's own card, for people."""
NAME = r"[^=@\[\]/\\\\]+@[A-Za-z][\w.-]*"
"""``NAME@COLLECTION``; a collection isn't a number, which is a seed."""


@dataclass(frozen=True)
class Score:
    """On an axis of the study's verdict, between floor (0) and ceiling (1), with its interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """Of a metric, in its unit; None is not known. ``here`` is of this training alone, the others of all trainings."""

    value: float | None
    low: float | None
    high: float | None
    floor: float | None
    ceiling: float | None
    unit: str = ""
    here: float | None = None


@dataclass(frozen=True)
class Check:
    """What these very files measured, so that anybody can measure it again by :func:`rslwm.study.ship.check`.

    PSNR in dB of ``clips`` clips of the unseen ones among the first ``episodes`` that the simulator records, mean over
    clips and frames: of the rollout, of the last frame copied (floor), and encoded and decoded (ceiling).
    """

    episodes: int
    clips: int
    rollout: float
    copied: float
    decoded: float
    rollout_before: float
    """Of the same world model before it was packed."""
    decoded_before: float


@dataclass(frozen=True)
class Card:
    """What a packed world model is: the data it was trained on, by which command, how well it did, and its files.

    ``scores`` and ``metrics`` are the study's, of ``trainings`` trainings of the space; ``costs`` are those of its
    report; ``files`` holds the SHA-256 of every file but the card, by its name in the folder.
    """

    name: str
    collection: str
    command: str
    versions: dict[str, str]
    seed: int
    data: dict[str, Any]
    trainings: int
    scores: dict[str, Score]
    metrics: dict[str, Measure]
    costs: dict[str, float]
    files: dict[str, str]
    check: Check | None = None

    def save(self, folder: Path) -> None:
        """Write ``card.json``."""
        write_whole(folder / CARD, json.dumps(to_dict(self), indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Card:
        """Read ``card.json``; :class:`DataError` if it is missing, or no such card."""
        path = folder / CARD
        try:
            return from_dict(cls, read_json(path), str(path))
        except ConfigError as error:
            raise DataError(f"{path} is no card of this version: {error}. Get the folder again.") from None

    def verify(self, folder: Path) -> None:
        """Raise :class:`DataError` for the first file that isn't what it was, is missing, or came since."""
        remedy = f"get the folder again, or remove {CARD} if the change is yours: scores and costs are then unknown"
        for name, expected in self.files.items():
            path = folder / name
            if not path.is_file():
                raise DataError(f"{path} does not exist, but {CARD} lists it; {remedy}")
            if (found := sha256(path)) != expected:
                raise DataError(f"{path}: SHA-256 {found[:12]}..., but {CARD} says {expected[:12]}...; {remedy}")
        if more := [name for name in content(folder) if name not in self.files]:
            raise DataError(f"{folder / more[0]} is not in {CARD}; {remedy}")


def content(folder: Path) -> list[str]:
    """Names of the files below a folder but its cards, that for people included, which may be edited, and hidden ones,
    which tools leave behind; sorted."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        path.as_posix()
        for path in found
        if not any(part.startswith(".") for part in path.parts) and str(path) not in (CARD, README)
    )


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each of these by its name."""
    return {name: sha256(folder / name) for name in content(folder)}


def names(shipped: Path | None = None) -> list[str]:
    """What there is, each as ``NAME@COLLECTION``."""
    found = sorted((shipped or SHIPPED).glob(f"*/*/{CARD}"))
    return [f"{card.parent.name}@{card.parent.parent.name}" for card in found]


def located(named: Path | str) -> Path:
    """The folder that ``NAME@COLLECTION``, ``hf://OWNER/NAME[@REVISION][/FOLDER]`` or a path leads to: the one place
    where names of world models are read.

    A folder with a card is checked, file by file.

    Raises:
        UnknownName: no folder of that name is here, and nothing is shipped under it.
        DataError: a file isn't what the card says; the hub can't be reached, or what is there isn't data alone.
    """
    folder = Path(named)
    if str(named).startswith("hf:"):
        folder = _downloaded(str(named))
    elif re.fullmatch(NAME, str(named)):
        name, _, collection = str(named).rpartition("@")
        if (SHIPPED / collection / name / CARD).is_file():
            folder = SHIPPED / collection / name
        elif not folder.is_dir():
            raise UnknownName(f"nothing called {str(named)!r} is shipped. {_listed(names())}")
    if (folder / CARD).is_file():
        Card.load(folder).verify(folder)
    return folder


def _downloaded(address: str) -> Path:
    place = Place.of(address)
    if place is None or place.kind != "model":
        raise DataError(f"{address!r} is not hf://OWNER/NAME[@REVISION][/FOLDER], which a world model on the hub is")
    folder = place.local(address, "download the folder by other means and name it")
    for path in folder.rglob("space.yaml"):
        if re.search(r"^reference:.*\.py:", path.read_text(), re.MULTILINE):
            raise DataError(
                f"{address}: {path.name} names code as its encoder, which nothing from the hub may; get the encoder as "
                "a package that registers it, and write its name there"
            )
    return folder


def _listed(known: Iterable[str]) -> str:
    text = ", ".join(known)
    return f"Shipped: {text}." if text else "This package ships no world models; name the folder of one."
