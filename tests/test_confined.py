"""Paths and templates of a file that somebody else wrote stay in its folder, and ask for nothing else."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from foreign import Foreign
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.store import INDEX, TensorStore
from rslwm.files import filled, within
from rslwm.serialisation import ConfigError, load, shown
from rslwm.study.config import StudyConfig
from rslwm.types import DataError


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "a\0b", "a/b/../../.."])
def test_a_path_out_of_the_folder_is_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leads out of"):
        within(tmp_path / "set", name)


def test_a_path_inside_is_as_it_was_written(tmp_path: Path) -> None:
    assert within(tmp_path, "a/../b/c.mp4") == tmp_path / "a/../b/c.mp4"


@pytest.mark.parametrize("template", ["{a.__class__}", "{a[0]}", "{a!r}", "{a:>999999999}", "{b}", "{}", "{a:10d}"])
def test_a_template_asks_for_parts_alone(template: str) -> None:
    with pytest.raises(ValueError, match="no field"):
        filled(template, {"a": 3})


def test_a_template_of_parts_is_filled() -> None:
    assert filled("{key}/file-{n:03d}.mp4", {"key": "front", "n": 7}) == "front/file-007.mp4"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data_path", "../elsewhere/{chunk_index}-{file_index}.parquet"),
        ("video_path", "/etc/{video_key}"),
        ("video_path", "{video_key.__class__.__init__.__globals__}"),
        ("data_path", "{file_index:>99999999999}"),
    ],
)
def test_a_data_set_s_files_are_its_own(field: str, value: str, tmp_path: Path) -> None:
    root = Foreign(lengths=(4,)).write(tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {field: value}))
    with pytest.raises(DataError, match=rf"info\.json: {field} is"):
        EpisodeDataset(root).frames(0, "front")


def test_a_data_set_s_pictures_are_its_own(tmp_path: Path) -> None:
    root = Foreign(lengths=(4,), images=True).write(tmp_path / "set")
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    name = "observation.images.front"
    (tmp_path / "secret.png").write_bytes(table[name][0].as_py()["bytes"])
    outside: Any = [{"bytes": None, "path": "../secret.png"}] * 4
    pq.write_table(table.set_column(table.column_names.index(name), name, [outside]), path)
    with pytest.raises(DataError, match=r"file-000\.parquet.*'\.\./secret\.png' leads out of"):
        EpisodeDataset(root).frames(0, "front")


def test_a_store_s_shards_are_its_own(tmp_path: Path) -> None:
    TensorStore.write(tmp_path / "other", [("a", torch.ones(2))], {})
    TensorStore.write(tmp_path / "store", [("a", torch.ones(2))], {})
    table = pq.read_table(tmp_path / "store" / INDEX)
    shards = [f"../other/{name}" for name in table["shard"].to_pylist()]
    place = table.column_names.index("shard")
    pq.write_table(table.set_column(place, table.schema.field("shard"), [shards]), tmp_path / "store" / INDEX)
    with pytest.raises(DataError, match="is no shard of this folder"):
        TensorStore(tmp_path / "store")


def test_a_configuration_that_grows_when_it_is_printed_is_refused_in_few_words(tmp_path: Path) -> None:
    levels = [f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join(["x0: &a0 [a]", *levels, "seeds: *a11"]))
    with pytest.raises(ConfigError, match=r"bomb\.yaml") as caught:
        load(StudyConfig, tmp_path / "bomb.yaml")
    assert len(str(caught.value)) < 2000


def test_a_value_of_any_size_is_shown_short() -> None:
    assert len(shown({"a": ["b" * 10**6] * 10**4})) < 10_000


@pytest.mark.parametrize(
    "text",
    ["a: 2024-13-45", "[" * 5000, "\xff", "? [a]\n: b", "a: !!python/object/apply:os.system [ls]", "a: 0x", "1: 2"],
)
def test_text_that_is_no_configuration_is_a_configuration_s_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        load(StudyConfig, tmp_path / "study.yaml")
