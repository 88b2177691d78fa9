"""Where published weights lie, and what to say when they don't."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from rslwm.types import DataError

SAMPLE = 2**20
ENVIRONMENT = "RSLWM_WEIGHTS"
"""Names this machine's folder of weights; it is in no configuration and in no key."""


class MissingWeights(DataError):
    """Weights that nobody has put where they are looked for; the message says where to get them."""


@dataclass(frozen=True)
class Source:
    """Where an encoder's weights are published."""

    files: tuple[str, ...]
    """Paths below the repository; the first one holds the encoder's weights, the others lie beside it."""
    megabytes: int
    """Of the download."""
    licence: str
    repository: str = ""
    """On the Hugging Face hub; empty if they are published elsewhere."""
    revision: str = "main"
    url: str = ""
    """Of the first file, where there is no repository."""
    package: str = ""
    """The Python package that ships the files, where there is neither; ``extra`` of ours installs it."""
    extra: str = ""

    @property
    def place(self) -> str:
        return self.repository or self.url or f"the package {self.package}"

    @property
    def command(self) -> str:
        if self.repository:
            return f"hf download {self.repository} {' '.join(self.files)} --revision {self.revision}"
        return f"curl -LO {self.url}" if self.url else f"pip install 'rslwm[{self.extra}]'"


@dataclass(frozen=True)
class Weights:
    """Files that were found."""

    file: Path
    """Of the encoder; its companions lie in the same folder."""
    revision: str
    """``files-`` and a digest of the files: the same wherever they lie."""

    @classmethod
    def of(cls, *files: Path) -> Weights:
        return cls(files[0], f"files-{digest(*files)}")


def find_weights(name: str, source: Source, given: str, folder: str) -> Weights | None:
    """The weights of an encoder: where the user says, else below the configuration's folder of weights, else the
    machine's, else in the hub's cache or the package that ships them.

    Args:
        name: of the encoder, and of its subfolder of a folder of weights.
        given: a file, or a folder that holds the source's files; nothing else is tried then.
        folder: of all weights; empty for none. The machine's is the environment variable ``RSLWM_WEIGHTS``.

    Returns None if there is nothing in these places; raises :class:`MissingWeights` if one of them lacks a file.
    """
    for place in places(name, given, folder):
        if place.exists():
            return in_place(name, source, place)
    if given:
        return None
    return _in_hub_cache(source) if source.repository else _in_package(source)


def places(name: str, given: str, folder: str) -> list[Path]:
    """Files or folders of a user's in which an encoder's weights may be, the first one first."""
    folders = [place for place in (folder, os.environ.get(ENVIRONMENT, "")) if place]
    return [Path(place).expanduser() for place in ([given] if given else [f"{place}/{name}" for place in folders])]


def missing(name: str, source: Source, given: str = "", folder: str = "") -> MissingWeights:
    """What to raise when :func:`find_weights` found nothing there and the network is needed."""
    tried = [*map(str, places(name, given, folder)), *(["the hub's cache"] if source.repository and not given else [])]
    then = "and" if source.url else "or"  # nothing looks where curl puts a file
    looked = f" (looked in {' and '.join(tried)})" if tried else ""
    return MissingWeights(
        f"{name}: its weights are not on this machine{looked}. They are {source.files[0]} of {source.place} "
        f"(revision {source.revision}, {source.megabytes} MB, licence: {source.licence}). Get them with\n"
        f"  {source.command}\n{then} put the file in a folder {name}/ and name the folder above it with "
        f"--encoder.weights or {ENVIRONMENT}"
    )


def in_place(name: str, source: Source, place: Path) -> Weights:
    """From a file and its companions, a copy of the subfolder that holds them, or a copy of the repository; raises
    :class:`MissingWeights` that says how to get the file that isn't there."""
    flat = place / Path(source.files[0]).name
    first = place if place.is_file() else flat if flat.is_file() else place / source.files[0]
    paths = [first, *(first.with_name(Path(file).name) for file in source.files[1:])]
    for file, path in zip(source.files, paths, strict=True):
        if not path.is_file():
            raise MissingWeights(
                f"{name}: {path} does not exist; it is {file} of {source.place} "
                f"({source.megabytes} MB, licence: {source.licence}). Get it with\n  {source.command}"
            )
    return Weights.of(*paths)


def _in_hub_cache(source: Source) -> Weights | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    paths = [try_to_load_from_cache(source.repository, file, revision=source.revision) for file in source.files]
    return Weights.of(*map(Path, paths)) if all(isinstance(path, str) for path in paths) else None


def _in_package(source: Source) -> Weights | None:
    found = importlib.util.find_spec(source.package) if source.package else None
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(found.submodule_search_locations[0]) / source.files[0]
    return Weights.of(file) if file.is_file() else None


def digest(*paths: Path) -> str:
    """Twelve digits that identify large files without reading all of them: size, first, middle and last MiB of each."""
    sha = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        sha.update(str(size).encode())
        with path.open("rb") as file:
            for start in (0, size // 2, max(0, size - SAMPLE)):
                file.seek(start)
                sha.update(file.read(SAMPLE))
    return sha.hexdigest()[:12]
