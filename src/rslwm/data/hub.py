"""Data sets on the Hugging Face hub: ``hf://datasets/OWNER/NAME[@REVISION]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rslwm.types import DataError

_URI = re.compile(r"hf://datasets/(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?P<folder>(?:/[^/]+)*)/?")


@dataclass(frozen=True)
class HubFolder:
    """``hf://datasets/OWNER/NAME[@REVISION][/FOLDER]``."""

    uri: str

    def commit(self) -> str:
        """The commit that this names now, or did when the hub was last reached; empty where nobody knows."""
        try:
            inside, folder = self._parts[2], self.local("meta/info.json")
        except DataError:
            return ""
        # A snapshot's folder is called by its commit.
        return folder.parents[len(Path(inside).parts) - 1].name if inside else folder.name

    def local(self, only: str = "") -> Path:
        """Where its files are on this machine, to which what isn't there is downloaded.

        Args:
            only: a pattern of the files that are needed, relative to the folder; all of them without.

        Raises:
            DataError: the address isn't one, the package huggingface_hub is missing, or the hub can't be reached.
        """
        name, revision, inside = self._parts
        try:
            from huggingface_hub import snapshot_download
            from huggingface_hub.errors import HFValidationError
        except ImportError:
            raise DataError(
                f"data.uri: {self.uri} needs the package huggingface_hub: pip install 'rslwm[encoders]'. Or download "
                "the data set by other means and give --data lerobot:FOLDER."
            ) from None
        options = {"allow_patterns": f"{inside}/{only}".lstrip("/")} if only else {}
        try:
            folder = snapshot_download(name, repo_type="dataset", revision=revision, **options)
        except (OSError, HFValidationError) as error:  # what goes wrong on the way is an OSError, offline mode included
            raise DataError(
                f"data.uri: {self.uri} can't be downloaded: {str(error).strip().splitlines()[0]} Check name, revision, "
                "permission and network; a set that is in the hub's cache already opens offline."
            ) from None
        return Path(folder, inside)

    @property
    def _parts(self) -> tuple[str, str | None, str]:
        """Name, revision and folder."""
        found = _URI.fullmatch(self.uri)
        if not found:
            raise DataError(f"data.uri: {self.uri!r} is not hf://datasets/OWNER/NAME[@REVISION]")
        return found["name"], found["revision"], found["folder"].strip("/")
