"""Data sets on the Hugging Face hub: ``hf://datasets/OWNER/NAME[@REVISION]``."""

from __future__ import annotations

import re
from pathlib import Path

from rslwm.data.config import DataConfig
from rslwm.data.dataset import SOURCES, EpisodeDataset, Progress, open_folder
from rslwm.types import DataError

_URI = re.compile(r"hf://datasets/(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?P<folder>(?:/[^/]+)*)/?")


@SOURCES.register("hf")
def open_hub(location: str, config: DataConfig, root: Path, progress: Progress | None) -> EpisodeDataset:
    """``hf://datasets/OWNER/NAME[@REVISION][/FOLDER]``, downloaded once into the hub's own cache."""
    return open_folder(local_folder(f"hf:{location}"), config)


def is_hub(uri: str) -> bool:
    """Whether a URI leads to the hub."""
    return uri.startswith(("hf:", "lerobot:hf:"))


def commit(uri: str) -> str:
    """The commit that a URI on the hub names now, or did when the hub was last reached; empty where nobody knows."""
    location = uri.removeprefix("lerobot:")
    try:
        folder, found = local_folder(location, "meta/info.json"), _URI.fullmatch(location)
    except DataError:
        return ""
    depth = len(Path(found["folder"].strip("/")).parts) if found else 0
    return folder.parents[depth - 1].name if depth else folder.name  # a snapshot's folder is called by its commit


def local_folder(location: str, only: str = "") -> Path:
    """Where the files of a LeRobot folder are: on this machine, or downloaded to it.

    Args:
        only: a pattern of the files that are needed, relative to the folder; all of them without.

    Raises:
        DataError: the address isn't one, the package huggingface_hub is missing, or the hub can't be reached.
    """
    if not location.startswith("hf:"):
        return Path(location).expanduser()
    uri, found = location, _URI.fullmatch(location)
    if not found:
        raise DataError(f"data.uri: {uri!r} is not hf://datasets/OWNER/NAME[@REVISION]")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        raise DataError(
            f"data.uri: {uri} needs the package huggingface_hub: pip install 'rslwm[encoders]'. Or download the data "
            "set by other means and give --data lerobot:FOLDER."
        ) from None
    inside = found["folder"].strip("/")
    options = {"allow_patterns": f"{inside}/{only}".lstrip("/")} if only else {}
    try:
        folder = snapshot_download(found["name"], repo_type="dataset", revision=found["revision"], **options)
    except (OSError, HFValidationError) as error:  # what goes wrong on the way is an OSError, offline mode included
        raise DataError(
            f"data.uri: {uri} can't be downloaded: {str(error).strip().splitlines()[0]} Check name, revision, "
            "permission and network; a set that is in the hub's cache already opens offline."
        ) from None
    return Path(folder, inside)
