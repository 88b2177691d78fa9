"""The metadata of a TFDS folder, and the features of its records.

See tensorflow_datasets/core/proto/feature.proto for ``features.json`` and dataset_info.proto for ``dataset_info.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.data.leaves import Leaf
from rslwm.data.lerobot_info import read_json
from rslwm.types import DataError

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_STRINGS = ("string", "object", "bytes", "str")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        below = (p.parent for pattern in ("*", "*/*") for p in path.parent.glob(f"{pattern}/{path.name}"))
        versions = sorted(p.relative_to(path.parent).as_posix() for p in below)
        remedy = f" Give one of the folders in it: {', '.join(versions)}" if versions else ""
        what = "not one version of a TFDS data set" if path.parent.exists() else "no folder"
        raise DataError(f"{path} does not exist: {path.parent} is {what}.{remedy}")
    return read_json(path)


def read_features(path: Path) -> list[Leaf]:
    """What ``features.json`` lists, by the keys under which a tf.Example stores it: ``steps/observation/state``. Raises
    DataError: the file doesn't follow the format."""
    return list(_leaves(_read(path), "", 0, path))


def _leaves(feature: Any, key: str, depth: int, path: Path) -> Iterator[Leaf]:
    where = f"{path}: feature {key or 'at the top'!r}"
    if not isinstance(feature, dict):
        raise DataError(f"{where} is {feature!r}, not a JSON object")
    if "featuresDict" in feature:
        children = _member(feature, "featuresDict", "features", where)
        if not isinstance(children, dict):
            raise DataError(f"{where}: featuresDict.features is {children!r}, not a JSON object")
        for name, child in children.items():
            yield from _leaves(child, f"{key}/{name}".lstrip("/"), depth, path)
    elif "sequence" in feature:
        yield from _leaves(_member(feature, "sequence", "feature", where), key, depth + 1, path)
    elif depth > 1:
        yield Leaf(key, "unknown", obstacle="a list inside every step, which isn't read")
    else:
        yield _leaf(feature, key, where)


def _leaf(feature: dict[str, Any], key: str, where: str) -> Leaf:
    if "text" in feature:
        return Leaf(key, "text")
    if "classLabel" in feature:
        return Leaf(key, "numbers", "int64")
    kind = next((kind for kind in ("tensor", "image") if kind in feature), None)
    if kind is None:
        name = str(feature.get("pythonClassName", "?")).rpartition(".")[2]
        return Leaf(key, "unknown", obstacle=f"a feature of class {name}, which isn't read")
    content = feature[kind]
    if not isinstance(content, dict):
        raise DataError(f"{where}: {kind} is {content!r}, not a JSON object")
    shape, dtype = _shape(content, where), str(content.get("dtype", "uint8" if kind == "image" else ""))
    if kind == "image":
        return Leaf(key, "image", dtype, shape)
    if dtype in _STRINGS:
        return Leaf(key, "text", obstacle="" if shape in ((), (1,)) else "several texts a step, which aren't read")
    encoding = str(content.get("encoding") or "none").lower()
    obstacle = "" if _known(dtype) else "a type that isn't read"
    if encoding not in ("none", "bytes", "zlib"):
        obstacle = f"encoding {encoding}, which isn't read"
    if min(shape, default=1) < 1:
        obstacle = "a size that varies, which isn't read"
    return Leaf(key, "numbers", dtype, shape, obstacle, encoding)


def _known(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "fiub"
    except TypeError:
        return False


def _shape(content: dict[str, Any], where: str) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in (content.get("shape") or {}).get("dimensions") or ())
    except (AttributeError, TypeError, ValueError):
        raise DataError(f"{where}: shape is {content['shape']!r}; expected dimensions, a list of numbers") from None


def _member(values: Any, outer: str, inner: str, where: str) -> Any:
    content = values[outer]
    if not isinstance(content, dict) or inner not in content:
        raise DataError(f"{where}: {outer} has no field {inner!r}")
    return content[inner]


def read_shards(folder: Path) -> tuple[str, dict[str, int]]:
    """The data set's name, and by file name how many records every shard of ``dataset_info.json`` should hold.

    Splits without shards and shards without records are no files that anybody misses.

    Raises:
        DataError: the file doesn't follow the format, or the records are in another container than TFRecord.
    """
    path = folder / "dataset_info.json"
    info = _read(path)
    for field in ("name", "splits"):
        if field not in info:
            raise DataError(f"{path} has no field {field!r}")
    container = str(info.get("fileFormat") or "tfrecord")
    if container != "tfrecord":
        target = folder.parent / f"{folder.name}-tfrecord"
        raise DataError(
            f"{path}: fileFormat is {container}; {container} isn't supported, only tfrecord is. Convert it where "
            "tensorflow-datasets is installed: python -m tensorflow_datasets.scripts.convert_format "
            f"--dataset_version_dir={folder} --out_file_format=tfrecord --out_dir={target}"
        )
    shards: dict[str, int] = {}
    for number, split in enumerate(_list(info["splits"], f"{path}: splits")):
        where = f"{path}: splits[{number}]"
        if not isinstance(split, dict):
            raise DataError(f"{where} is {split!r}, not a JSON object")
        shards |= _split(str(info["name"]), split, where)
    return str(info["name"]), shards


def _split(dataset: str, split: dict[str, Any], where: str) -> dict[str, int]:
    try:
        lengths = [int(n) for n in _list(split.get("shardLengths") or [], f"{where}.shardLengths")]
    except (TypeError, ValueError):
        raise DataError(f"{where}.shardLengths is {split['shardLengths']!r}; expected numbers") from None
    template = str(split.get("filepathTemplate") or _TEMPLATE)
    names: dict[str, int] = {}
    for i, length in enumerate(lengths):
        values = {"DATASET": dataset, "SPLIT": split.get("name"), "FILEFORMAT": "tfrecord"}
        values |= {"SHARD_INDEX": f"{i:05d}", "NUM_SHARDS": f"{len(lengths):05d}"}
        values |= {"SHARD_X_OF_Y": f"{i:05d}-of-{len(lengths):05d}"}
        try:
            name = Path(template.format(**values)).name
        except (AttributeError, IndexError, KeyError, ValueError):
            raise DataError(f"{where}.filepathTemplate is {template!r}; known are {', '.join(values)}") from None
        names |= {name: length} if length > 0 else {}
    return names


def _list(values: Any, where: str) -> list[Any]:
    if not isinstance(values, list):
        raise DataError(f"{where} is {values!r}, not a list")
    return values
