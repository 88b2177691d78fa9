"""TFDS folders of small recordings, encoded by hand."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recordings import rendered
from rslwm.data.config import DataConfig
from rslwm.data.sources.rlds import BRIDGE_SPEC, Rlds
from rslwm.data.tfrecord import masked_checksum
from rslwm.types import ActionSpec, Episode, end_effector_spec

STEPS = 6


def varint(n: int) -> bytes:
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def encode(example: dict[str, Any]) -> bytes:
    """A serialised tf.Example of float arrays, integer lists and lists of byte strings."""
    entries = b""
    for key, value in example.items():
        if isinstance(value, np.ndarray):
            feature = field(2, field(1, value.astype("<f4").tobytes()))
        elif isinstance(value[0], bytes):
            feature = field(1, b"".join(field(1, item) for item in value))
        else:
            feature = field(3, field(1, b"".join(map(varint, value))))
        entries += field(1, field(1, key.encode()) + field(2, feature))
    return field(1, entries)


def framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + masked_checksum(length) + record + masked_checksum(record)


def pictures(frames: np.ndarray) -> list[bytes]:
    files = [io.BytesIO() for _ in frames]
    for file, frame in zip(files, frames, strict=True):
        Image.fromarray(frame).save(file, "PNG")
    return [file.getvalue() for file in files]


def example(number: int, reward: float = 0.0, path: str = "/robot/out.npy") -> dict[str, Any]:
    rng = np.random.default_rng(number)
    return {
        "steps/action": BRIDGE_SPEC.denormalise(rng.uniform(-1, 1, (STEPS, 7))),
        "steps/observation/state": rng.normal(size=(STEPS, 7)).astype(np.float32),
        "steps/observation/image_1": pictures(np.zeros((STEPS, 16, 16, 3), np.uint8)),
        "steps/observation/image_0": pictures(rendered(STEPS, 16, number)),
        "steps/reward": np.array([0.0] * (STEPS - 1) + [reward]),
        "steps/language_instruction": [b"put the pot on the stove"] * STEPS,
        "episode_metadata/file_path": [path.encode()],
        "episode_metadata/episode_id": [number],
    }


def tensor(*shape: int, dtype: str = "float32", encoding: str = "none") -> dict[str, Any]:
    dimensions = {"dimensions": [str(n) for n in shape]} if shape else {}
    return {"tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding}}


def image(*shape: int, dtype: str = "uint8") -> dict[str, Any]:
    return {"image": {"shape": {"dimensions": [str(n) for n in shape]}, "dtype": dtype, "encodingFormat": "png"}}


def group(**features: Any) -> dict[str, Any]:
    return {"featuresDict": {"features": features}}


FEATURES = group(
    steps={
        "sequence": {
            "feature": group(
                action=tensor(7),
                observation=group(state=tensor(7), image_1={"image": {}}, image_0={"image": {}}),
                reward=tensor(),
                language_instruction={"text": {}},
            )
        }
    },
    episode_metadata=group(file_path={"text": {}}, episode_id={"tensor": {"shape": {}, "dtype": "int32"}}),
)


def tfds(
    root: Path,
    shards: list[list[dict[str, Any]]],
    name: str = "bridge_dataset",
    val: int = 0,
    features: dict[str, Any] = FEATURES,
) -> Path:
    """A TFDS folder with these train shards; ``val`` records are announced in a shard that isn't there."""
    root.mkdir()
    splits = [{"name": "train", "shardLengths": [str(len(shard)) for shard in shards]}]
    splits += [{"name": "val", "shardLengths": [str(val)]}] if val else []
    (root / "features.json").write_text(json.dumps(features))
    (root / "dataset_info.json").write_text(json.dumps({"name": name, "fileFormat": "tfrecord", "splits": splits}))
    for i, shard in enumerate(shards):
        path = root / f"{name}-train.tfrecord-{i:05d}-of-{len(shards):05d}"
        path.write_bytes(b"".join(framed(encode(episode)) for episode in shard))
    return root


def rlds(folder: Path, features: tuple[str, ...] = ()) -> Rlds:
    source = Rlds(str(folder), DataConfig(f"rlds:{folder}", features=features))
    _ = source.layout
    return source


def as_recorded(folder: Path) -> list[Episode]:
    return list(rlds(folder).episodes(as_recorded=True))


SPEC = end_effector_spec(0.05, 0.25, hz=10)
TEXT: dict[str, Any] = {"text": {}}

Features = dict[str, tuple[dict[str, Any], Any]]
"""By key what features.json says of a feature, and its values in every episode."""


def basic(number: int) -> Features:
    """What an episode of a robot that nobody knows has at least."""
    actions = SPEC.denormalise(np.random.default_rng(number).uniform(-1, 1, (STEPS, 7)))
    return {
        "steps/observation/image": (image(16, 16, 3), pictures(rendered(STEPS, 16, number))),
        "steps/action": (tensor(7), actions),
        "steps/reward": (tensor(), np.array([0.0] * (STEPS - 1) + [1.0])),
        "steps/language_instruction": (TEXT, [f"task {number}".encode()] * STEPS),
        "episode_metadata/file_path": (TEXT, [f"/raw/{number}.h5".encode()]),
    }


def nested(features: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """``features.json`` of features by key."""
    tree: dict[str, Any] = {}
    for key, feature in features.items():
        *path, leaf = key.split("/")
        place = tree
        for name in path:
            place = place.setdefault(name, {})
        place[leaf] = (feature,)

    def written(node: Any, name: str) -> dict[str, Any]:
        if isinstance(node, tuple):
            return dict(node[0])
        children = group(**{child: written(below, child) for child, below in node.items()})
        return {"sequence": {"feature": children, "length": "-1"}} if name == "steps" else children

    return written(tree, "")


def robot(
    root: Path, changed: Features, without: tuple[str, ...] = (), spec: ActionSpec | None = SPEC, name: str = "my_robot"
) -> Path:
    """A TFDS folder of three episodes with these features beside, or in place of, those of :func:`basic`."""
    episodes = [{k: v for k, v in (basic(i) | changed).items() if k not in without} for i in range(3)]
    described = nested({key: feature for key, (feature, _) in episodes[0].items()})
    records = [{key: values for key, (_, values) in episode.items()} for episode in episodes]
    folder = tfds(root, [records], name, features=described)
    if spec:
        (folder / "rslwm.json").write_text(json.dumps({"action_spec": spec.to_dict()}))
    return folder
