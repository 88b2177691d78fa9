"""What ``meta/info.json`` of a LeRobot folder says: the rate, where files lie, and the features by our names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from rslwm.files import filled, read_json, within
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
    version: int  # 2 or 3
    features: dict[str, Feature]  # by our names
    columns: dict[str, str]  # what the data call these features
    replaced: dict[str, Feature]  # those whose name was given to another one

    @property
    def root(self) -> Path:
        return self.file.parents[1]

    @property
    def fps(self) -> float:
        return float(self.values["fps"])

    @cached_property
    def cameras(self) -> dict[str, str]:
        """Colour cameras: names to features, those of one channel last."""
        keys = [k for k in self.pictures if not _is_depth(k, self.features[k])]
        return _by_name(sorted(keys, key=lambda k: _is_single(self.features[k])), CAMERA)

    @cached_property
    def filmed(self) -> list[str]:
        """Cameras whose pictures lie in videos."""
        return [camera for camera, key in self.cameras.items() if self.features[key]["dtype"] == "video"]

    @cached_property
    def states(self) -> dict[str, str]:
        """Recorded vectors: names to features."""
        observed = [key for key in self.features if key.startswith("observation.") and not key.startswith(CAMERA)]
        return _by_name([key for key in observed if _is_vector(self.features[key])], f"{STATE}.")

    @property
    def pictures(self) -> list[str]:
        """Features of cameras, colour or depth."""
        return [key for key, feature in self.features.items() if _is_picture(feature)]

    @cached_property
    def own(self) -> dict[str, Any]:
        """What this project has noted there; empty in a set that it didn't write."""
        ours = self.values.get("rslwm")
        return ours if isinstance(ours, dict) else {}

    def left_out(self) -> list[str]:
        """One sentence for every kind of feature that isn't used, and what an import noted."""
        used = {ACTION, SUCCESS, LABELLED, *BOOKKEEPING, *self.states.values(), *self.pictures}
        rest = {key: feature for key, feature in self.features.items() if key not in used} | self.replaced
        noted = self.own.get("left_out")
        found = [*map(str, noted)] if isinstance(noted, list) else []
        depth = [key for key in self.pictures if key not in self.cameras.values()]
        found += [f"camera {_short(key, CAMERA)!r} is a depth map, and left out" for key in depth]
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
            height, width = names.index("height"), names.index("width")
            if all(size in CHANNELS for i, size in enumerate(shape) if i not in (height, width)):
                return shape[height], shape[width]
        first = len(shape) == 3 and shape[0] in CHANNELS and shape[2] not in CHANNELS
        return (shape[1], shape[2]) if first else (shape[0], shape[1])

    def path(self, template: str, **parts: Any) -> Path:
        """A file by ``data_path`` or ``video_path``. Raises DataError: that asks for something else than LeRobot's."""
        text = self.values.get(template) or PATHS[self.version][template]
        try:
            return within(self.root, filled(text, parts))
        except (TypeError, ValueError, AttributeError) as error:
            what = f"can't be filled in ({error!r}); LeRobot v{self.version} has {', '.join(parts)}"
            raise DataError(f"{self.file}: {template} is {text!r}, which {what}") from None


def read_info(root: Path, mapping: Sequence[str] = ()) -> Info:
    """``meta/info.json`` with features called as ``mapping`` says, each OURS=THEIRS. Raises DataError: it is missing or
    malformed, of another version, or has no actions."""
    file = root / "meta/info.json"
    if not file.is_file():
        what = "not a LeRobot data set" if root.exists() else "no folder"
        raise DataError(f"{file} does not exist: {root} is {what}")
    values = read_json(file)
    version = re.match(r"v?([23])\b", str(values.get("codebase_version")))
    if not version:
        supported = "supported are LeRobot v2.x and v3.x. Convert it with LeRobot's own convert_dataset_*.py"
        raise DataError(f"{file}: codebase_version is {values.get('codebase_version')}; {supported}")
    if lacking := [name for name in ("fps", "features", "total_episodes") if name not in values]:
        raise DataError(f"{file} has no field {lacking[0]!r}, which LeRobot {version[0]} requires")
    fps = values["fps"]
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 1e6:
        raise DataError(f"{file}: fps is {fps!r}; expected the number of steps a second")
    found = values["features"]
    for key, feature in found.items() if isinstance(found, dict) else [("features", found)]:
        shape = feature.get("shape") if isinstance(feature, dict) else None
        shaped = isinstance(shape, list) and all(isinstance(n, int) for n in shape)
        if not (shaped and isinstance(feature.get("dtype"), str)):
            raise DataError(f"{file}: feature {key!r} has no dtype or shape: {str(feature)[:80]}")
        if _is_picture(feature) and len(_shape(feature)) < 2:
            raise DataError(f"{file}: {describe(key, feature)} has no height and width; expected (H, W, channels)")
    ours = _renamed(found, mapping, file)
    replaced = {key: found[key] for key in found if ours.get(key, key) != key and key not in ours.values()}
    columns = ours | {key: key for key in found if key not in ours and key not in ours.values()}
    info = Info(file, values, int(version[1]), {k: found[v] for k, v in columns.items()}, columns, replaced)
    if ACTION not in columns:
        raise DataError(_no_action(info))
    if not _is_vector(action := info.features[ACTION]):
        what = f"has shape {_shape(action)} a step, dtype {action['dtype']}"
        raise DataError(f"{file}: {columns[ACTION]!r} {what}; expected one vector of numbers, (A,)")
    return info


def describe(key: str, feature: Feature) -> str:
    """A feature in three words: ``actions float32 (7,)``."""
    return f"{key} {feature['dtype']} {_shape(feature)}"


def video_details(feature: Feature) -> dict[str, Any]:
    """What a feature says of its video, in any version's place."""
    found = (feature.get(name) for name in ("video_info", "info"))
    return {key: value for each in found if isinstance(each, dict) for key, value in each.items()}


def dimension_names(feature: Feature, name: str) -> list[str]:
    """Names of a feature's dimensions: LeRobot allows a list, lists by group, name -> index, or none."""
    names, count = _flat(feature.get("names")), prod(feature["shape"])
    return names if len(names) == count else [f"{name}_{i}" for i in range(count)]


def _flat(names: Any) -> list[str]:
    if isinstance(names, dict):
        if names and all(isinstance(place, int) for place in names.values()):
            return sorted(names, key=lambda name: names[name])
        names = [*names.values()]
    if isinstance(names, list):
        return [name for part in names for name in _flat(part)]
    return [names] if isinstance(names, str) else []


def _renamed(features: dict[str, Feature], mapping: Sequence[str], file: Path) -> dict[str, str]:
    """Ours -> theirs."""
    renamed: dict[str, str] = {}
    for entry in mapping:
        ours, equals, theirs = (part.strip() for part in entry.partition("="))
        known = ours in (ACTION, SUCCESS, LABELLED) or (ours.startswith("observation.") and ours[-1] != ".")
        if not (equals and known):
            ours = f"{ACTION}, {CAMERA}NAME, {STATE}, {STATE}.NAME, {SUCCESS}"
            raise DataError(f"data.features: {entry!r} is not OURS=THEIRS; ours are {ours}")
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
    unclaimed = (p.name for p in (info.root / "videos").glob(f"{CAMERA}*") if p.name not in info.features)
    for key in info.pictures:
        if not key.startswith(CAMERA):
            own = next(unclaimed, "") if info.features[key]["dtype"] == "video" else ""
            flags.append(f"{own or CAMERA + key.split('.')[-1]}={key}")
    if STATE not in info.features:
        flags += [f"{STATE}={key}" for key in vectors if "state" in key.lower() and key not in actions[:1]][:1]
    instance = f"Say which one is meant, for instance: --data.features {','.join(flags)}"
    return f"{info.file}: no feature is called 'action'; {_listed(info.features)}. {instance}"


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
    shape = feature["shape"]
    return len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[2]))


def _is_vector(feature: Feature) -> bool:
    numbers = feature["dtype"].startswith(("float", "int", "uint", "bool"))
    return numbers and len(feature["shape"]) <= 1 and all(0 < n < LONGEST for n in feature["shape"])


def _is_depth(key: str, feature: Feature) -> bool:
    """Flagged as LeRobot flags it, or one channel of more than 8 bits, or of that name."""
    details = video_details(feature) | feature
    if details.get("is_depth_map") or details.get("video.is_depth_map"):
        return True
    deep = re.match(r"gray(9|1\d)", str(details.get("video.pix_fmt") or details.get("pix_fmt") or ""))
    return bool(deep) or (_is_single(feature) and "depth" in key.lower())
