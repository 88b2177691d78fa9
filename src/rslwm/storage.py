"""Files at any address that fsspec knows (``s3://``, ``gs://``, ``hf://``, ``file://``), checked when they arrive."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from rich.filesize import decimal

from rslwm import caches
from rslwm.files import sha256, write_whole
from rslwm.serialisation import ConfigError, content_hash
from rslwm.types import DataError

SUMS = "sums.json"
NOTES = (SUMS, "meta/fingerprint.json")
"""Where a folder may say what its files' SHA-256 are: written by :func:`upload`, and by the writer of a data set."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "hf": "encoders"}
AT_ONCE = 8
"""Files that travel side by side."""
STATE = ("size", "ETag", "etag", "md5Hash", "blob_id", "mtime", "LastModified", "last_modified")
"""What listings call a file's size, and what changes with its content."""
LONG = 10 * 10**6
"""Bytes from which on a download is announced."""


def is_uri(place: object) -> bool:
    """Whether that is an address, SCHEME://..., and no path on this machine."""
    scheme, found, _ = str(place).partition("://")
    return bool(found) and scheme.isidentifier()


def confined(name: str) -> bool:
    """Whether a name that came from elsewhere stays in the folder that it is joined to."""
    parts = name.split("/")
    return not {"", ".", ".."} & {*parts} and "\\" not in name and "\0" not in name and ":" not in parts[0]


class Store:
    """A folder at an address; names are relative to it.

    Raises:
        ConfigError: nothing is known of such addresses, or the package for them is missing.
    """

    def __init__(self, uri: str) -> None:
        self.uri, scheme = uri.rstrip("/"), uri.partition("://")[0] if is_uri(uri) else "file"
        options = {"auto_mkdir": True} if scheme in ("file", "local") else {}
        try:
            self.fs, self.root = fsspec.url_to_fs(self.uri, use_listings_cache=False, **options)
        except ImportError as error:
            remedy = f"pip install 'rslwm[{EXTRAS[scheme]}]'" if scheme in EXTRAS else "install it"
            raise ConfigError(f"{uri} needs a package that isn't here ({error}): {remedy}") from None
        except ValueError as error:
            raise ConfigError(f"{uri} can't be an address: {error}. Write s3://, gs://, hf:// or a folder.") from None

    def where(self, name: str) -> str:
        return f"{self.uri}/{name}" if name else self.uri

    def sizes(self) -> dict[str, tuple[int, str]]:
        """Every file below the folder, or the file itself under the empty name: its bytes, and a text that changes with
        its content. Raises DataError: it can't be reached, nothing is there, or a name leads out of the folder."""
        with self._telling("listed", ""):
            found = self.fs.find(self.root, detail=True)
        files = {name[len(self.root) :].strip("/"): info for name, info in found.items()}
        if not files:
            raise DataError(f"{self.uri} holds no files. Correct the address.")
        if wrong := [name for name in files if name and not confined(name)]:
            raise DataError(f"{self.uri} holds {wrong[0]!r}, a name that leads elsewhere; nothing was read of it")
        return {name: (int(info["size"] or 0), repr([info.get(key) for key in STATE])) for name, info in files.items()}

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it isn't there."""
        with self._telling("looked up", name):
            try:
                return int(self.fs.info(self._at(name))["size"] or 0)
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes | None:
        """All of a small file; None if it isn't there."""
        with self._telling("read", name):
            try:
                return self.fs.cat_file(self._at(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        with self._telling("written", name):
            self.fs.pipe_file(self._at(name), content)

    def put(self, file: Path, name: str) -> None:
        with self._telling("written", name):
            self.fs.put_file(str(file), self._at(name))

    def get(self, name: str, file: Path) -> None:
        """Download to a file, whose folder is made."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._telling("read", name):
            self.fs.get_file(self._at(name), str(file))

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    @contextmanager
    def _telling(self, done: str, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each library has errors of its own, many of which are no OSError
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            remedy = "Check address, network and permission"
            raise DataError(f"{self.where(name)} can't be {done}: {reason}. {remedy}.") from None


def side_by_side(work: Callable[[str], None], names: Mapping[str, int], progress: Callable[[int], None]) -> None:
    """Do the same for every name, told with how many bytes it stands for; the first failure ends it."""
    done = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pending = {name: pool.submit(work, name) for name in names}
        try:
            for name, future in pending.items():
                future.result()
                done += names[name]
                progress(done)
        finally:
            pool.shutdown(cancel_futures=True)


def upload(folder: Path, uri: str) -> None:
    """Copy a finished folder to an address, and last, with the SHA-256 of each, the list of its files: who reads it by
    :func:`mirrored` meets all of it or is told. Raises DataError: the address can't be written."""
    store, files = Store(uri), [path for path in sorted(folder.rglob("*")) if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    noted = {name: {"sha256": sha256(folder / name)} for name in sizes}
    side_by_side(lambda name: store.put(folder / name, name), sizes, lambda done: None)
    store.write(SUMS, json.dumps(noted, indent=1).encode())


def mirrored(uri: str, anew: bool = True) -> Path:
    """The file or folder at an address as a copy on this machine, in the cache; there is one for each of its states.

    Args:
        anew: look there whether it has changed. Without, what was copied before is taken as it is.

    Raises:
        DataError: it can't be reached, isn't all there, or isn't what it says of itself; no room for it on the disk.
    """
    place = caches.cache_folder() / "mirrors" / content_hash(uri)
    pointer, name = place / "current", PurePosixPath(uri.rstrip("/")).name
    if not anew and pointer.is_file():
        return place / pointer.read_text() / name
    store = Store(uri)
    files = store.sizes()
    state = content_hash(*sorted(files.items()))
    if not (place / state / name).exists():
        _copy(store, {name: size for name, (size, _) in files.items()}, place / state, name)
    write_whole(pointer, state)
    return place / state / name


def _copy(store: Store, sizes: Mapping[str, int], state: Path, name: str) -> None:
    """Download to a folder that gets its name when all is in it and checked."""
    needed = sum(sizes.values())
    state.parent.mkdir(parents=True, exist_ok=True)
    if needed > (free := shutil.disk_usage(state.parent).free):
        remedy = f"Free some, or set {caches.ENVIRONMENT} to a folder of another disk"
        raise DataError(f"{store.uri} is {decimal(needed)}, but {state.parent} has {decimal(free)} free. {remedy}.")
    if needed > LONG:
        print(f"copying {store.uri}, {len(sizes):,} files of {decimal(needed)}, to {state.parent}", file=sys.stderr)
    fresh = Path(tempfile.mkdtemp(prefix=".partial-", dir=state.parent))
    try:
        root = fresh / name
        side_by_side(lambda each: store.get(each, root / each if each else root), sizes, lambda done: None)
        _require_whole(store, root, sizes)
        (root / SUMS).unlink(missing_ok=True)  # of the copy, and no part of what was copied
        if not state.exists():  # another process was faster
            os.rename(fresh, state)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _require_whole(store: Store, root: Path, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if (found := (root / name if name else root).stat().st_size) != size:
            raise DataError(f"{store.where(name)}: {found:,} of {size:,} bytes arrived. Run the same command again.")
    for note in NOTES:
        if note in sizes:
            for name, sums in _noted(root / note, store).items():
                _require_same(store, root, name, sums["sha256"])


def _noted(file: Path, store: Store) -> dict[str, Any]:
    try:
        noted = json.loads(file.read_text())
        return {name: {"sha256": str(sums["sha256"])} for name, sums in noted.items()}
    except (ValueError, AttributeError, TypeError, KeyError):
        raise DataError(f"{store.where(file.name)} is no list of SHA-256 by file. Upload the folder again.") from None


def _require_same(store: Store, root: Path, name: str, expected: str) -> None:
    path = root / name
    if not confined(name) or not path.is_file():
        raise DataError(f"{store.where(name)} is missing, though the folder lists it. Upload it again.")
    if (found := sha256(path)) != expected:
        raise DataError(
            f"{store.where(name)} is damaged: its SHA-256 is {found[:12]}..., and was {expected[:12]}... when it was "
            "written. Upload it again."
        )
