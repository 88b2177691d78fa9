"""The Hugging Face hub's layout: what its client downloads, and where that then lies. Without a network what is in the
client's cache is there."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rslwm.types import DataError

ADDRESS = re.compile(r"hf:/{1,2}(datasets/)?([^/@]+/[^/@]+)(?:@([^/]+))?((?:/[^/]+)*)/?")
_SNAPSHOT = re.compile(r"models--(.+?)--(.+)/snapshots/[^/]+(/.*)?")


def client(why: str, remedy: str) -> ModuleType:
    """The package huggingface_hub. Raises DataError: it isn't installed."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise DataError(f"{why} needs the package huggingface_hub: pip install 'rslwm[hub]'{remedy}") from None


@dataclass(frozen=True)
class Place:
    """A folder of a repository on the hub; ``kind`` is model or dataset."""

    kind: str
    name: str
    revision: str | None
    inside: str

    @classmethod
    def of(cls, address: str) -> Place | None:
        """Where ``hf://[datasets/]OWNER/NAME[@REVISION][/FOLDER]`` leads to; None where it is no such address."""
        if not (found := ADDRESS.fullmatch(address)) or (not found[1] and found[2].startswith("datasets/")):
            return None
        return cls("dataset" if found[1] else "model", found[2], found[3], found[4].strip("/"))

    def local(self, asked: str, remedy: str, only: str = "") -> Path:
        """Where its files are on this machine, to which what isn't there is downloaded.

        Args:
            asked: what the user wrote.
            remedy: what else could be done, for messages.
            only: a pattern of files, relative to the folder; all without it.

        Raises:
            DataError: the package huggingface_hub is missing, or the hub can't be reached.
        """
        hub = client(asked, f", or {remedy}")
        wanted = f"{self.inside}/{only or ('*' if self.inside else '')}".strip("/")
        options: dict[str, Any] = {"allow_patterns": wanted} if wanted and (only or self.kind == "model") else {}
        try:
            folder = hub.snapshot_download(self.name, repo_type=self.kind, revision=self.revision, **options)
        except (OSError, hub.errors.HFValidationError) as error:  # an OSError is all that goes wrong on the way
            what = f"{asked} can't be downloaded: {str(error).strip().splitlines()[0]}"
            raise DataError(
                f"{what} Check name, revision, permission and network; what is in the hub's cache opens offline."
            ) from None
        return Path(folder, self.inside)


def shown(folder: Path) -> Path:
    """A folder's path for people: of one in the hub's cache ``OWNER/NAME/FOLDER``, without the commit."""
    path = folder.absolute()
    found = _SNAPSHOT.search(path.as_posix())
    return Path(found[1], found[2], (found[3] or "").strip("/")) if found else path
