"""The metadata of a TFDS folder, and the features of its records.

See tensorflow_datasets/core/proto/feature.proto for ``features.json`` and dataset_info.proto for ``dataset_info.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rslwm.data.leaves import Leaf
from rslwm.files import filled, read_json
from rslwm.types import DataError

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_STRINGS = ("string", "object", "bytes", "str")
_NUMBERS = r"bool|u?int(8|16|32|64)|float(16|32|64)"


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
    if "featuresDict" in _typed(feature, dict, where):
        children = _member(feature, "featuresDict", "features", where)
        for name, child in _typed(children, dict, f"{where}: featuresDict.features").items():
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
    content = _typed(feature[kind], dict, f"{where}: {kind}")
    declared = _typed(content.get("shape") or {}, dict, f"{where}: shape")
    shape = _whole(declared.get("dimensions"), f"{where}: shape.dimensions")
    dtype = str(content.get("dtype", "uint8" if kind == "image" else ""))
    if kind == "image":
        return Leaf(key, "image", dtype, shape)
    if dtype in _STRINGS:
        return Leaf(key, "text", obstacle="" if shape in ((), (1,)) else "several texts a step, which aren't read")
    encoding = str(content.get("encoding") or "none").lower()
    obstacles = {
        "a size that varies, which isn't read": min(shape, default=1) < 1,
        f"encoding {encoding}, which isn't read": encoding not in ("none", "bytes", "zlib"),
        "a type that isn't read": not re.fullmatch(_NUMBERS, dtype),
    }
    return Leaf(key, "numbers", dtype, shape, next((what for what, holds in obstacles.items() if holds), ""), encoding)


def _whole(numbers: Any, where: str) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in _typed(numbers or [], list, where))
    except (TypeError, ValueError):
        raise DataError(f"{where} is {numbers!r}; expected numbers") from None


def _member(values: dict[str, Any], outer: str, inner: str, where: str) -> Any:
    if inner not in (content := _typed(values[outer], dict, f"{where}: {outer}")):
        raise DataError(f"{where}: {outer} has no field {inner!r}")
    return content[inner]


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise DataError(f"{where} is {value!r}, not a {'list' if kind is list else 'JSON object'}")
    return value


def read_shards(folder: Path) -> tuple[str, dict[str, int]]:
    """The data set's name, and by file name how many records every shard of ``dataset_info.json`` should hold; those
    without any are no files that anybody misses. Raises DataError: the file doesn't follow the format, or the records
    are in another container than TFRecord."""
    path = folder / "dataset_info.json"
    info = _read(path)
    for field in ("name", "splits"):
        if field not in info:
            raise DataError(f"{path} has no field {field!r}")
    container = str(info.get("fileFormat") or "tfrecord")
    if container != "tfrecord":
        raise DataError(
            f"{path}: fileFormat is {container}; {container} isn't supported, only tfrecord is. Convert it where "
            "tensorflow-datasets is installed: python -m tensorflow_datasets.scripts.convert_format "
            f"--dataset_version_dir={folder} --out_file_format=tfrecord --out_dir={folder}-tfrecord"
        )
    shards: dict[str, int] = {}
    for number, split in enumerate(_typed(info["splits"], list, f"{path}: splits")):
        where = f"{path}: splits[{number}]"
        shards |= _split(str(info["name"]), _typed(split, dict, where), where)
    return str(info["name"]), shards


def _split(dataset: str, split: dict[str, Any], where: str) -> dict[str, int]:
    lengths = _whole(split.get("shardLengths"), f"{where}.shardLengths")
    template = str(split.get("filepathTemplate") or _TEMPLATE)
    names: dict[str, int] = {}
    for i, length in enumerate(lengths):
        index, count = f"{i:05d}", f"{len(lengths):05d}"
        values = {"DATASET": dataset, "SPLIT": split.get("name"), "FILEFORMAT": "tfrecord"}
        values |= {"SHARD_INDEX": index, "NUM_SHARDS": count, "SHARD_X_OF_Y": f"{index}-of-{count}"}
        try:
            name = Path(filled(template, values)).name
        except (TypeError, ValueError):
            raise DataError(f"{where}.filepathTemplate is {template!r}; known are {', '.join(values)}") from None
        names |= {name: length} if length > 0 else {}
    return names
