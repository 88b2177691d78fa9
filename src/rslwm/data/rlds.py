"""RLDS data sets as TFDS writes them (BridgeData V2, Open X-Embodiment), read without TensorFlow."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rslwm.data.conventions import stored_spec
from rslwm.data.frames import BLACK
from rslwm.data.tfrecord import Value, parse_example, read_records
from rslwm.serialisation import content_hash
from rslwm.types import ActionSpec, DataError, Episode, end_effector_spec

ACTION, OBSERVATION, REWARD = "steps/action", "steps/observation/", "steps/reward"
INSTRUCTIONS = ("steps/language_instruction", "steps/observation/natural_language_instruction")
SIDECAR = "rslwm.json"

BRIDGE_SPEC = end_effector_spec(0.05, 0.25, hz=5.0)
"""BridgeData V2's actions; its control rate is 5 Hz, which RLDS has no place for (arXiv 2308.12952)."""

log = logging.getLogger(__name__)


@dataclass
class RldsReport:
    """What a folder holds and what was left out."""

    episodes: list[tuple[str, Path, int]] = field(default_factory=list)
    """Id, shard and number of the record inside it."""
    duplicates: int = 0
    """Records dropped because an earlier one is the same episode; public samples repeat train as val."""
    missing: list[str] = field(default_factory=list)
    """Shards that dataset_info.json names and the folder lacks."""
    cameras: list[str] = field(default_factory=list)
    black: list[str] = field(default_factory=list)
    """Cameras dropped because they are black in every episode."""
    rewarded: bool = False
    """Whether any reward is positive; if none is, success is unlabelled rather than false."""

    def warnings(self) -> list[str]:
        """One sentence for everything that was left out."""
        found: list[str] = []
        if self.missing:
            found.append(
                f"{len(self.missing)} shards named in dataset_info.json are absent: {', '.join(self.missing[:4])}"
            )
        if self.duplicates:
            found.append(f"{self.duplicates} episodes occur twice and are read once")
        if self.black:
            found.append(f"cameras dropped, black in every episode: {', '.join(self.black)}")
        if not self.rewarded:
            found.append("every reward is 0: success is taken as unlabelled")
        return found


class RldsFolder:
    """A folder with features.json, dataset_info.json and the shards of one version of a data set.

    Raises:
        DataError: a metadata file or every shard is missing, or the features hold no ``steps/action``.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        info = _read_json(self.root / "dataset_info.json")
        self.name = str(info["name"])
        features = _leaves(_read_json(self.root / "features.json"))
        self.images = sorted(name for name, feature in features.items() if "image" in feature)
        self.vectors = {n: shape for n, f in features.items() if len(shape := _shape(f)) == 1}
        if ACTION not in self.vectors:
            raise DataError(f"{self.root}/features.json has no vector {ACTION!r}; it has {', '.join(features)}")
        self._shards = dict(_shards(info))
        if not any((self.root / shard).is_file() for shard in self._shards):
            raise DataError(
                f"{self.root} holds none of its shards ({', '.join([*self._shards][:4])}). Copy them there."
            )

    @property
    def key(self) -> str:
        """Changes with name, size or modification time of any file that is read."""
        names = [*self._shards, "features.json", "dataset_info.json", SIDECAR]
        stats = {name: (self.root / name).stat() for name in names if (self.root / name).is_file()}
        return content_hash([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()])

    @cached_property
    def spec(self) -> ActionSpec:
        """From ``rslwm.json`` beside the shards if it is there; known by itself for BridgeData.

        Raises:
            DataError: neither; RLDS doesn't say what an action means.
        """
        sidecar = self.root / SIDECAR
        if sidecar.is_file():
            return stored_spec(_read_json(sidecar).get("action_spec"), str(sidecar))
        if self.name.startswith("bridge") and self.vectors[ACTION] == (BRIDGE_SPEC.dims,):
            return BRIDGE_SPEC
        example = json.dumps({"action_spec": BRIDGE_SPEC.to_dict()})
        raise DataError(
            f"{self.root} doesn't say what its actions mean. Add {sidecar} with an action_spec like {example}"
        )

    @property
    def state_names(self) -> dict[str, list[str]]:
        """Names of the state's dimensions where they are known."""
        return {"state": [*BRIDGE_SPEC.names]} if self.spec == BRIDGE_SPEC else {}

    @cached_property
    def report(self) -> RldsReport:
        """Reads everything once: checks every record's checksum, finds repeated episodes and black cameras.

        Raises:
            DataError: a shard is damaged or holds another number of records than dataset_info.json says.
        """
        report = RldsReport(missing=[name for name in self._shards if not (self.root / name).is_file()])
        seen: dict[str, str] = {}
        lit: set[str] = set()
        for shard in (self.root / name for name in self._shards if name not in report.missing):
            number = -1
            for number, record in enumerate(read_records(shard)):
                example = parse_example(record)
                name, digest = _identity(example)
                if seen.get(name, digest) != digest:  # another episode of the same name
                    name = f"{name}@{digest}"
                report.duplicates += name in seen
                if name not in seen:
                    report.episodes.append((name, shard, number))
                seen[name] = digest
                report.rewarded |= bool(np.any(np.asarray(example.get(REWARD, [])) > 0))
                lit |= {image for image in self.images if image not in lit and not _is_black(example, image, shard)}
            if number + 1 != self._shards[shard.name]:
                raise DataError(
                    f"{shard} holds {number + 1} records, but {self._shards[shard.name]} according to "
                    "dataset_info.json. Copy it again."
                )
        report.cameras = [_camera(image) for image in self.images if image in lit]
        report.black = [_camera(image) for image in self.images if image not in lit]
        for sentence in report.warnings():
            log.warning("%s: %s", self.root, sentence)
        return report

    def episodes(self) -> Iterator[Episode]:
        """Every episode once, in the order of the shards, with the cameras that show something."""
        wanted = {(shard, number): name for name, shard, number in self.report.episodes}
        for shard in dict.fromkeys(shard for shard, _ in wanted):
            for number, record in enumerate(read_records(shard, verify=False)):  # the report has verified them
                if name := wanted.get((shard, number)):
                    yield self._episode(name, shard, parse_example(record))

    def _episode(self, name: str, shard: Path, example: dict[str, Value]) -> Episode:
        where = f"{shard}: episode {name!r}"
        vectors = {key: _vectors(example, key, shape, where) for key, shape in self.vectors.items()}
        images = [image for image in self.images if _camera(image) in self.report.cameras]
        frames = {_camera(image): _video(example, image, where) for image in images}
        rewards = np.asarray(example.get(REWARD, []))
        instruction = next((example[key][0] for key in INSTRUCTIONS if key in example), b"")
        path = [bytes(value).decode() for value in example.get("episode_metadata/file_path", [])]
        return Episode(
            id=name,
            frames=frames,
            actions=vectors.pop(ACTION),
            instruction=bytes(instruction).decode().strip(),
            success=bool((rewards > 0).any()) if self.report.rewarded else None,
            states={n.removeprefix(OBSERVATION): value for n, value in vectors.items() if n.startswith(OBSERVATION)},
            info={"source": "".join(path), "shard": shard.name},
        )


def read_rlds(folder: Path | str) -> Iterator[Episode]:
    """Episodes of a TFDS folder; :class:`RldsFolder` also tells what was left out.

    Raises:
        DataError: see :class:`RldsFolder` and :attr:`RldsFolder.report`.
    """
    return RldsFolder(folder).episodes()


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path} does not exist: {path.parent} is not one version of a TFDS data set")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    return content


def _leaves(feature: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """Features by the key under which a tf.Example stores them: ``steps/observation/state``."""
    if "sequence" in feature:
        return _leaves(feature["sequence"]["feature"], path)
    if "featuresDict" not in feature:
        return {path: feature}
    children = feature["featuresDict"]["features"]
    return {k: v for name, child in children.items() for k, v in _leaves(child, f"{path}/{name}".lstrip("/")).items()}


def _shape(feature: dict[str, Any]) -> tuple[int, ...]:
    tensor = feature.get("tensor", {})
    floating = str(tensor.get("dtype")).startswith("float")
    return tuple(int(n) for n in tensor["shape"].get("dimensions", [])) if floating else ()


def _shards(info: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Names of the shard files and how many records each should hold."""
    for split in info["splits"]:
        lengths = [int(n) for n in split["shardLengths"]]
        template = split.get("filepathTemplate", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}")
        for i, length in enumerate(lengths):
            yield (
                template.format(
                    DATASET=info["name"],
                    SPLIT=split["name"],
                    FILEFORMAT=info.get("fileFormat", "tfrecord"),
                    SHARD_X_OF_Y=f"{i:05d}-of-{len(lengths):05d}",
                ),
                length,
            )


def _identity(example: dict[str, Value]) -> tuple[str, str]:
    """An episode's name, from its source file and number where given, and a hash of what it holds."""
    content = hashlib.sha256(np.asarray(example.get(ACTION, [])).tobytes())
    for key in sorted(example):
        if key.startswith(OBSERVATION) and isinstance(value := example[key], list) and value:
            content.update(value[0])
    parts = [bytes(path).decode() for path in example.get("episode_metadata/file_path", [])]
    parts += [str(number) for number in example.get("episode_metadata/episode_id", [])]
    digest = content.hexdigest()[:12]
    return ":".join(parts) or digest, digest


def _vectors(example: dict[str, Value], key: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """(T, n): a tf.Example holds a whole episode's vectors one behind the other."""
    values = np.asarray(example.get(key, []), np.float32)
    if not len(values) or len(values) % shape[0]:
        raise DataError(f"{where} has {len(values)} values of {key!r}; features.json says {shape[0]} a step")
    return values.reshape(-1, *shape)


def _video(example: dict[str, Value], image: str, where: str) -> np.ndarray:
    if not len(example.get(image, [])):
        raise DataError(f"{where} has no pictures of {image!r}, which other episodes have. Remove the episode.")
    return np.stack([_decode(data, where) for data in example[image]])


def _camera(image: str) -> str:
    return image.removeprefix(OBSERVATION)


def _decode(data: Any, where: object) -> np.ndarray:
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except OSError as error:
        raise DataError(f"{where}: an image can't be decoded ({error}). Copy the file again.") from None


def _is_black(example: dict[str, Value], image: str, shard: Path) -> bool:
    """Judged by the episode's middle frame. The ``has_image_*`` flags are 0 in public data whose images are there."""
    pictures = example.get(image, [])
    return not len(pictures) or int(_decode(pictures[len(pictures) // 2], shard).max()) < BLACK
