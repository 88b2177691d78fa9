"""What ``meta/info.json`` of a LeRobot folder says: the rate, where files lie, and the features by our names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.types import DataError

CAMERA, STATE, ACTION = "observation.images.", "observation.state", "action"
SUCCESS, LABELLED = "next.success", "next.success_labelled"
CHANNELS = (1, 3, 4)
LONGEST = 2**16  # values of a vector
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")

PATHS = {
    3: {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    },
    2: {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    },
}
"""Where LeRobot v3 and v2.x put their files if ``info.json`` doesn't say so."""

Feature = dict[str, Any]


@dataclass(frozen=True)
class Info:
    """``meta/info.json``, read by :func:`read_info`."""

    file: Path
    values: dict[str, Any]
    version: int
    """2 or 3."""
    features: dict[str, Feature]
    """By our names."""
    columns: dict[str, str]
    """What the data call these features."""
    replaced: dict[str, Feature]
    """Features whose name was given to another one."""

    @property
    def root(self) -> Path:
        return self.file.parents[1]

    @cached_property
    def fps(self) -> float:
        return float(self.values["fps"])

    @cached_property
    def cameras(self) -> dict[str, str]:
        """Colour cameras: names to features, those of one channel last."""
        keys = [k for k in self._pictures if not _is_depth(k, self.features[k])]
        return _by_name(sorted(keys, key=lambda k: _is_single(self.features[k])), CAMERA)

    @cached_property
    def filmed(self) -> list[str]:
        """Cameras whose pictures lie in videos."""
        return [camera for camera, key in self.cameras.items() if self.features[key]["dtype"] == "video"]

    @cached_property
    def states(self) -> dict[str, str]:
        """Recorded vectors: names to features."""
        return _by_name([k for k, feature in self.features.items() if _is_state(k, feature)], f"{STATE}.")

    @property
    def _pictures(self) -> list[str]:
        return [key for key, feature in self.features.items() if _is_picture(feature)]

    @cached_property
    def own(self) -> dict[str, Any]:
        """What this project has noted there; empty in a set that it didn't write."""
        ours = self.values.get("rslwm")
        return ours if isinstance(ours, dict) else {}

    def left_out(self) -> list[str]:
        """One sentence for every kind of feature that isn't used, and what an import noted."""
        used = {ACTION, SUCCESS, LABELLED, *BOOKKEEPING, *self.states.values(), *self._pictures}
        rest = {key: feature for key, feature in self.features.items() if key not in used} | self.replaced
        noted = self.own.get("left_out")
        found = [str(note) for note in noted] if isinstance(noted, list) else []
        depth = [_short(key, CAMERA) for key in self._pictures if key not in self.cameras.values()]
        found += [f"camera {name!r} is a depth map, and left out" for name in depth]
        if rest:
            found.append(f"features left out: {', '.join(describe(key, rest[key]) for key in rest)}")
        for key in (ACTION, *self.states.values()):
            feature = self.features[key]
            if (given := _flat(feature.get("names"))) and dimension_names(feature, "") != given:
                found.append(f"names of {key!r} left out: {len(given)} for shape {_shape(feature)}: {given}")
        return found

    def size(self, camera: str) -> tuple[int, int]:
        """Declared height and width of a camera's frames."""
        feature = self.features[self.cameras[camera]]
        shape, names = _shape(feature), feature.get("names")
        if isinstance(names, list) and {"height", "width"} <= {*map(str, names[: len(shape)])}:
            places = [names.index("height"), names.index("width")]
            if all(shape[i] in CHANNELS for i in range(len(shape)) if i not in places):
                return shape[places[0]], shape[places[1]]
        first = len(shape) == 3 and shape[0] in CHANNELS and shape[2] not in CHANNELS
        return (shape[1], shape[2]) if first else (shape[0], shape[1])

    def path(self, template: str, **parts: Any) -> Path:
        """A file by ``data_path`` or ``video_path``. Raises DataError: the template asks for something else than
        LeRobot's."""
        text = self.values.get(template) or PATHS[self.version][template]
        try:
            return self.root / text.format(**parts)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise DataError(
                f"{self.file}: {template} is {text!r}, which can't be filled in ({error!r}); LeRobot v{self.version} "
                f"has {', '.join(parts)}"
            ) from None


def read_info(root: Path, mapping: Sequence[str] = ()) -> Info:
    """``meta/info.json`` with features called as ``mapping`` says, each entry OURS=THEIRS. Raises DataError: it is
    missing or malformed, of another version, or has no actions."""
    file = root / "meta/info.json"
    if not file.is_file():
        what = "not a LeRobot data set" if root.exists() else "no folder"
        raise DataError(f"{file} does not exist: {root} is {what}")
    values = read_json(file)
    version = _version(values, file)
    for name in ("fps", "features", "total_episodes"):
        if name not in values:
            raise DataError(f"{file} has no field {name!r}, which LeRobot v{version} requires")
    fps = values["fps"]
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 1e6:
        raise DataError(f"{file}: fps is {fps!r}; expected the number of steps a second")
    found = values["features"]
    for key, feature in found.items() if isinstance(found, dict) else [("features", found)]:
        if not (isinstance(feature, dict) and isinstance(feature.get("dtype"), str) and _is_shape(feature)):
            raise DataError(f"{file}: feature {key!r} has no dtype or shape: {str(feature)[:80]}")
        if _is_picture(feature) and len(_shape(feature)) < 2:
            raise DataError(f"{file}: {describe(key, feature)} has no height and width; expected (H, W, channels)")
    ours = _renamed(found, mapping, file)
    replaced = {key: found[key] for key in found if ours.get(key, key) != key and key not in ours.values()}
    columns = ours | {key: key for key in found if key not in ours and key not in ours.values()}
    info = Info(file, values, version, {k: found[v] for k, v in columns.items()}, columns, replaced)
    if ACTION not in columns:
        raise DataError(_no_action(info))
    if not _is_vector(action := info.features[ACTION]):
        what = f"shape {_shape(action)} a step, dtype {action['dtype']}"
        raise DataError(f"{file}: {columns[ACTION]!r} has {what}; expected one vector of numbers, (A,)")
    return info


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises DataError: the file holds something else."""
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not JSON: {error}. Copy it again, or write it again in UTF-8.") from None
    if not isinstance(values, dict):
        raise DataError(f"{file} holds {str(values)[:40]!r}; expected a JSON object, {{...}}")
    return values


def describe(key: str, feature: Feature) -> str:
    """A feature in three words: ``actions float32 (7,)``."""
    return f"{key} {feature['dtype']} {_shape(feature)}"


def video_details(feature: Feature) -> dict[str, Any]:
    """What a feature says of its video, in any version's place."""
    found = (feature.get(name) for name in ("video_info", "info"))
    return {key: value for each in found if isinstance(each, dict) for key, value in each.items()}


def dimension_names(feature: Feature, name: str) -> list[str]:
    """Names of a feature's dimensions: LeRobot allows a list, lists by group, name -> index, or none."""
    names, count = _flat(feature.get("names")), int(np.prod(_shape(feature)))
    return names if len(names) == count else [f"{name}_{i}" for i in range(count)]


def _flat(names: Any) -> list[str]:
    if isinstance(names, dict):
        if names and all(isinstance(place, int) for place in names.values()):
            return sorted(names, key=lambda name: names[name])
        names = [*names.values()]
    if isinstance(names, list):
        return [name for part in names for name in _flat(part)]
    return [names] if isinstance(names, str) else []


def _version(values: dict[str, Any], file: Path) -> int:
    version = str(values.get("codebase_version"))
    if number := re.match(r"v?([23])\b", version):
        return int(number[1])
    raise DataError(
        f"{file}: codebase_version is {version}; supported are LeRobot v2.x and v3.x. Convert the set with LeRobot's "
        "own scripts (lerobot/datasets/v2, v21, v30: convert_dataset_*.py)."
    )


def _renamed(features: dict[str, Feature], mapping: Sequence[str], file: Path) -> dict[str, str]:
    """Ours -> theirs."""
    renamed: dict[str, str] = {}
    for entry in mapping:
        ours, equals, theirs = (part.strip() for part in entry.partition("="))
        known = ours in (ACTION, SUCCESS, LABELLED) or (ours.startswith("observation.") and ours[-1] != ".")
        if not (equals and known):
            raise DataError(
                f"data.features: {entry!r} is not OURS=THEIRS; ours are {ACTION}, {CAMERA}NAME, {STATE}, "
                f"{STATE}.NAME, {SUCCESS}"
            )
        if theirs not in features:
            raise DataError(f"data.features: {entry!r}: {file} has no feature {theirs!r}; {_listed(features)}")
        camera = ours.startswith(CAMERA)
        if not (_is_picture(features[theirs]) if camera else _is_vector(features[theirs])):
            wanted = "pictures (dtype video or image)" if camera else "a vector of numbers"
            raise DataError(f"data.features: {entry!r}: {describe(theirs, features[theirs])} of {file} is not {wanted}")
        if ours in renamed:
            raise DataError(f"data.features names {ours} twice: {renamed[ours]} and {theirs}; leave one out")
        renamed[ours] = theirs
    return renamed


def _listed(features: dict[str, Feature]) -> str:
    return f"its features are {', '.join(describe(k, f) for k, f in features.items() if k not in BOOKKEEPING)}"


def _no_action(info: Info) -> str:
    """Names every feature, and the flag to write."""
    vectors = [k for k, f in info.features.items() if _is_vector(f) and k not in BOOKKEEPING and k != SUCCESS]
    actions = sorted((k for k in vectors if not k.startswith("observation.")), key=lambda k: "action" not in k.lower())
    flags = [f"{ACTION}={actions[0] if actions else 'NAME'}"]
    known = {*info.features}
    folders = [p.name for p in (info.root / "videos").glob("*") if p.name.startswith(CAMERA) and p.name not in known]
    for key, feature in info.features.items():
        if _is_picture(feature) and not key.startswith(CAMERA):
            own = folders.pop(0) if folders and feature["dtype"] == "video" else CAMERA + key.split(".")[-1]
            flags.append(f"{own}={key}")
    if STATE not in known:
        flags += [f"{STATE}={key}" for key in vectors if "state" in key.lower() and key not in actions[:1]][:1]
    return (
        f"{info.file}: no feature is called 'action'; {_listed(info.features)}. Say which one is meant, for "
        f"instance: --data.features {','.join(flags)}"
    )


def _is_shape(feature: Feature) -> bool:
    shape = feature.get("shape")
    return isinstance(shape, list | tuple) and all(isinstance(n, int) for n in shape)


def _shape(feature: Feature) -> tuple[int, ...]:
    return tuple(feature["shape"])


def _by_name(keys: list[str], prefix: str) -> dict[str, str]:
    """Keys by their short names, or by themselves where two would be called the same."""
    short = [_short(key, prefix) for key in keys]
    return {name if short.count(name) == 1 else key: key for key, name in zip(keys, short, strict=True)}


def _short(key: str, prefix: str) -> str:
    """``observation.images.top`` is ``top``; plain ``observation.state`` is ``state``."""
    return key.removeprefix(prefix).removeprefix("observation.")


def _is_picture(feature: Feature) -> bool:
    return feature["dtype"] in ("video", "image")


def _is_single(feature: Feature) -> bool:
    """Whether its pictures have one channel."""
    shape = _shape(feature)
    return len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[2]))


def _is_vector(feature: Feature) -> bool:
    numbers = feature["dtype"].startswith(("float", "int", "uint", "bool"))
    return numbers and len(feature["shape"]) <= 1 and all(0 < n < LONGEST for n in feature["shape"])


def _is_state(key: str, feature: Feature) -> bool:
    return key.startswith("observation.") and not key.startswith(CAMERA) and _is_vector(feature)


def _is_depth(key: str, feature: Feature) -> bool:
    """Flagged as LeRobot flags it, or one channel of more than 8 bits, or of that name."""
    details = video_details(feature) | feature
    if details.get("is_depth_map") or details.get("video.is_depth_map"):
        return True
    deep = re.match(r"gray(9|1\d)", str(details.get("video.pix_fmt") or details.get("pix_fmt") or ""))
    return bool(deep) or (_is_single(feature) and "depth" in key.lower())
