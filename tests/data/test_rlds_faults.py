"""Metadata and records that don't follow the format: an error with file and field, never a traceback."""

import copy
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordings import rendered
from rslwm.data.config import DataConfig
from rslwm.data.sources.opening import open_source
from rslwm.data.tfrecord import masked_checksum, parse_example, read_records
from rslwm.types import DataError
from tfds_folder import STEPS, TEXT, basic, encode, field, framed, image, pictures, rlds, robot, tensor, varint


def edited(folder: Path, file: str, change: Any) -> Path:
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    return folder


def read(folder: Path) -> None:
    source = rlds(folder)
    assert source.spec
    assert list(source.episodes())


def test_empty_splits_are_skipped(tmp_path: Path) -> None:
    splits = [
        {"name": "val", "numBytes": "0"},
        {"name": "test", "shardLengths": []},
        {"name": "extra", "shardLengths": ["0"]},
    ]
    folder = edited(robot(tmp_path / "r", {}), "dataset_info.json", lambda info: info["splits"].extend(splits))
    source = rlds(folder)
    assert len(list(source.episodes())) == 3
    assert not any("absent" in note for note in source.notes)


def test_splits_that_are_all_empty_are_an_error(tmp_path: Path) -> None:
    folder = edited(
        robot(tmp_path / "r", {}), "dataset_info.json", lambda info: info.update(splits=[{"name": "train"}])
    )
    with pytest.raises(DataError, match="every split is empty"):
        rlds(folder)


@pytest.mark.parametrize("container", ["array_record", "riegeli", "parquet", "bagz"])
def test_another_container_is_named_with_how_to_convert(tmp_path: Path, container: str) -> None:
    folder = edited(robot(tmp_path / "r", {}), "dataset_info.json", lambda info: info.update(fileFormat=container))
    with pytest.raises(
        DataError, match=f"{container} isn't supported.*convert_format.*--out_file_format=tfrecord"
    ) as error:
        rlds(folder)
    assert "Copy" not in str(error.value)


def test_another_container_that_the_metadata_do_not_tell_is_named(tmp_path: Path) -> None:
    folder = edited(robot(tmp_path / "r", {}), "dataset_info.json", lambda info: info.pop("fileFormat"))
    shard = next(folder.glob("*.tfrecord-*"))
    shard.rename(folder / shard.name.replace("tfrecord", "array_record"))
    with pytest.raises(DataError, match=r"array_record-00000-of-00001 isn't a TFRecord file"):
        rlds(folder)


@pytest.mark.parametrize(
    ("start", "message"),
    [(b"\x1f\x8b\x08" + bytes(40), "compressed with gzip"), (b"version https://git-lfs.github.com/spec/v1", "Git LFS")],
)
def test_what_stands_in_a_shards_place_is_named(tmp_path: Path, start: bytes, message: str) -> None:
    folder = robot(tmp_path / "r", {})
    next(folder.glob("*.tfrecord-*")).write_bytes(start)
    with pytest.raises(DataError, match=rf"my_robot-train\.tfrecord.*{message}"):
        read(folder)


def test_a_folder_of_versions_names_them(tmp_path: Path) -> None:
    robot(tmp_path / "1.0.0", {})
    with pytest.raises(DataError, match=r"not one version of a TFDS data set\. Give one of the folders in it: 1\.0\.0"):
        rlds(tmp_path)


@pytest.mark.parametrize(
    ("key", "feature", "values"),
    [
        ("steps/language_instruction", TEXT, [b"ouvre le tiroir \xe0 gauche"] * STEPS),
        ("episode_metadata/file_path", TEXT, [b"/donn\xe9es/0.h5"]),
    ],
)
def test_broken_text_names_shard_and_episode(tmp_path: Path, key: str, feature: dict[str, Any], values: Any) -> None:
    with pytest.raises(DataError, match=rf"my_robot-train\.tfrecord-00000-of-00001: record 0.*'{key}' is not UTF-8"):
        read(robot(tmp_path / "r", {key: (feature, values)}))


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("steps/observation/image", np.ones(3, np.float32), "an image of 'steps/observation/image' can't be decoded"),
        ("steps/observation/image", [b""] * STEPS, "can't be decoded"),
        ("steps/action", [b"left"] * STEPS, r"'steps/action' holds bytes; features\.json says float32 \(7\)"),
        ("steps/reward", [b"1"] * STEPS, "'steps/reward' holds bytes"),
        ("steps/language_instruction", [1, 2, 3], "'steps/language_instruction' holds numbers"),
        ("episode_metadata/file_path", [7], "'episode_metadata/file_path' holds numbers"),
        ("steps/action", np.ones(13, np.float32), r"has 13 values of 'steps/action'; features\.json says 7 a step"),
    ],
)  # fmt: skip
def test_values_of_another_kind_than_the_features_are_an_error(
    tmp_path: Path, key: str, values: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(robot(tmp_path / "r", {key: (basic(0)[key][0], values)}))
    assert "my_robot-train.tfrecord" in str(error.value)


@pytest.mark.parametrize("broken", [b"nothing", b"x\x9c\x03\x00", b""])
def test_a_packed_tensor_that_cannot_be_unpacked_is_an_error(tmp_path: Path, broken: bytes) -> None:
    state = {"steps/observation/contact": (tensor(2, encoding="zlib"), [broken] * STEPS)}
    with pytest.raises(DataError, match=r"a step of 'steps/observation/contact' is not float32 .* packed as zlib"):
        read(robot(tmp_path / "r", state))


def test_pictures_of_two_sizes_in_one_episode_are_an_error(tmp_path: Path) -> None:
    mixed = pictures(rendered(3, 16, 0)) + pictures(rendered(3, 24, 0))
    with pytest.raises(DataError, match=r"differ in size: \(16, 16\), \(24, 24\)"):
        read(robot(tmp_path / "r", {"steps/observation/image": (image(-1, -1, 3), mixed)}))


def test_a_feature_that_an_episode_lacks_is_named(tmp_path: Path) -> None:
    folder = robot(tmp_path / "r", {"steps/observation/state": (tensor(2), np.ones(12, np.float32))})
    record = {key: values for key, (_, values) in basic(0).items()}
    next(folder.glob("*.tfrecord-*")).write_bytes(b"".join(framed(encode(record)) for _ in range(3)))
    with pytest.raises(DataError, match=r"episode '/raw/0\.h5' has 0 values of 'steps/observation/state'"):
        list(rlds(folder).episodes())


BROKEN = [None, 3, "text", [], [1], {}, {"x": 1}, {"features": 3}, {"dimensions": "three"}, {"dimensions": ["a"]}, True]


@pytest.mark.parametrize("seed", range(60))
def test_metadata_with_any_node_broken_give_data_or_an_error_that_names_the_file(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder = robot(tmp_path / "r", {"steps/observation/state": (tensor(2), np.ones(2 * STEPS, np.float32))})
    file = ("features.json", "dataset_info.json")[seed % 2]
    content = json.loads((folder / file).read_text())
    places = list(nodes(content))
    parent, key = places[rng.integers(len(places))]
    if rng.random() < 0.2 and isinstance(parent, dict):
        del parent[key]
    else:
        parent[key] = copy.deepcopy(BROKEN[rng.integers(len(BROKEN))])
    (folder / file).write_text(json.dumps(content))
    try:
        read(folder)
    except DataError as error:
        assert str(folder) in str(error)  # noqa: PT017


def nodes(content: Any) -> Any:
    """Every place in a JSON value, as its container and key."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield content, key
        if isinstance(value, dict | list):
            yield from nodes(value)


@pytest.mark.parametrize("text", ["[1]", "null", "{", '"x"', ""])
@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_metadata_that_are_no_object_are_an_error(tmp_path: Path, file: str, text: str) -> None:
    folder = robot(tmp_path / "r", {})
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=file):
        open_source(DataConfig(f"rlds:{folder}")).open(tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_records_with_any_byte_changed_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder = robot(tmp_path / "r", {})
    record = bytearray(encode({key: values for key, (_, values) in basic(0).items()}))
    structure = rng.integers(0, len(record), 3) if seed % 2 else rng.integers(0, 60, 2)
    for place in structure:
        record[place] = rng.integers(256)
    next(folder.glob("*.tfrecord-*")).write_bytes(framed(bytes(record)) * 3)
    try:
        read(folder)
    except DataError as error:
        assert str(folder) in str(error)  # noqa: PT017


def integers(*encoded: bytes) -> np.ndarray:
    entry = field(1, b"i") + field(2, field(3, field(1, b"".join(encoded))))
    values = parse_example(field(1, field(1, entry)))["i"]
    assert isinstance(values, np.ndarray)
    return values


def test_varints_of_any_length_are_read() -> None:
    numbers = [0, 1, 127, 128, 300, 2**32, 2**63 - 1, 2**64 - 1, 2**63]
    signed = [n - 2**64 if n >= 2**63 else n for n in numbers]
    np.testing.assert_array_equal(integers(*map(varint, numbers)), signed)
    np.testing.assert_array_equal(integers(b"\x85\x00"), [5])  # longer than it need be
    assert not len(integers())


@pytest.mark.parametrize("encoded", [b"\x80", b"\x01\xff\xff", b"\xff" * 10 + b"\x01", b"\x80" * 30 + b"\x01"])
def test_varints_that_do_not_end_are_an_error(encoded: bytes) -> None:
    with pytest.raises(DataError, match=r"not a tf\.Example"):
        integers(encoded)


def test_a_length_beyond_the_file_is_truncation(tmp_path: Path) -> None:
    huge = struct.pack("<Q", 2**63)
    (tmp_path / "r").write_bytes(huge + masked_checksum(huge) + b"abc")
    with pytest.raises(DataError, match=rf"truncated, 3 of {2**63} bytes"):
        list(read_records(tmp_path / "r"))
