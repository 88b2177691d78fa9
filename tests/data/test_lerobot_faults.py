"""Whatever is wrong with a LeRobot folder's metadata, it is a message and no traceback."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foreign import Foreign
from rslwm.cli.data import describe
from rslwm.data.check import check
from rslwm.data.dataset import EpisodeDataset
from rslwm.types import DataError

JUNK: list[Any] = [None, 0, -1, 1.5, float("nan"), float("inf"), "x", "[/red]", [], {}, ["a"], {"a": 1}, True, 10**20]


def spoilt(value: Any, rng: random.Random) -> Any:
    """The same with one entry missing or replaced."""
    if isinstance(value, dict) and value:
        key = rng.choice(sorted(value))
        rest = {k: v for k, v in value.items() if k != key}
        return rest if rng.random() < 0.2 else rest | {key: spoilt(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        return [*value[:place], spoilt(value[place], rng), *value[place + 1 :]]
    return rng.choice(JUNK)


def read(root: Path) -> str:
    """What becomes of a folder: everything is read, or one message says why not."""
    try:
        dataset = EpisodeDataset(root)
        report = check(dataset)
        describe(dataset)
    except DataError:
        return "refused"
    return "read" if report.ok else "errors"


@pytest.mark.parametrize("v21", [False, True], ids=["v3", "v21"])
def test_an_info_file_of_any_content_is_read_or_refused(tmp_path: Path, v21: bool) -> None:
    root, rng = Foreign(lengths=(4, 3), v21=v21).write(tmp_path / "set"), random.Random(0)
    info = json.loads((root / "meta/info.json").read_text())
    found = set()
    for _ in range(60):
        (root / "meta/info.json").write_text(json.dumps(spoilt(info, rng)))
        found.add(read(root))
    assert "refused" in found


@pytest.mark.parametrize("name", ["episodes", "tasks"])
def test_lines_of_any_content_are_read_or_refused(tmp_path: Path, name: str) -> None:
    root, rng = Foreign(lengths=(4, 3), v21=True).write(tmp_path / "set"), random.Random(0)
    path = root / f"meta/{name}.jsonl"
    first, *rest = path.read_text().splitlines()
    found = set()
    for _ in range(40):
        path.write_text("\n".join([json.dumps(spoilt(json.loads(first), rng)), *rest]))
        found.add(read(root))
    assert "refused" in found


@pytest.mark.parametrize("file", ["data/chunk-000/file-000", "meta/episodes/chunk-000/file-000", "meta/tasks"])
def test_columns_that_are_missing_empty_or_text_are_read_or_refused(tmp_path: Path, file: str) -> None:
    root = Foreign(lengths=(4, 3)).write(tmp_path / "set")
    path = root / f"{file}.parquet"
    table = pq.read_table(path)
    found = set()
    for place, column in enumerate(table.schema):
        nulls, text = pa.nulls(len(table), column.type), pa.array(["x"] * len(table))
        for other in (nulls, text):
            pq.write_table(table.set_column(place, column.name, other), path)
            found.add(read(root))
        pq.write_table(table.drop_columns([column.name]), path)
        found.add(read(root))
    assert found - {"read"}


def test_a_file_with_bytes_of_another_one_is_read_or_refused(tmp_path: Path) -> None:
    root, rng = Foreign(lengths=(4, 3)).write(tmp_path / "set"), random.Random(0)
    for path in [p for p in root.rglob("*") if p.is_file()]:
        content = path.read_bytes()
        for _ in range(12):
            broken = bytearray(content)
            for _ in range(rng.randrange(1, 20)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            path.write_bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])])
            assert read(root) in ("read", "errors", "refused")
        path.write_bytes(content)
    assert read(root) == "read"
