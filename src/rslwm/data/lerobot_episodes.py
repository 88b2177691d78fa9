"""Which episodes a LeRobot folder lists, and where their rows, videos and instructions are: v3 and v2.x."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rslwm.data import parquet
from rslwm.data.lerobot_info import Info
from rslwm.data.parquet import rows_of
from rslwm.files import json_object
from rslwm.types import DataError

LARGEST = 2**53  # no count or index is as large
_REMEDY = "copy it again, or record with LeRobot's dataset.finalize(), which writes the last of it."
_UNFINISHED = "LeRobot's dataset.finalize() wasn't called, or it was cut off: copy or record it again."


@dataclass(frozen=True)
class VideoPlace:
    """An episode's part of a video, in seconds; ``end`` is None if the file is the episode's own."""

    path: Path
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class Listed:
    """An episode as the metadata list it."""

    number: int  # its ``episode_index``
    length: int
    tasks: tuple[str, ...]
    span: tuple[int, int] | None  # its rows by their ``index``, if that is said
    table: Path | None  # the data file with its rows, if that is said
    videos: dict[str, VideoPlace]  # by camera
    own: dict[str, Any]  # ``id`` and ``info`` of a set that this project has written


def read_episodes(info: Info) -> list[Listed]:
    """By ascending ``episode_index``. Raises DataError: they are missing, damaged, or another number than declared."""
    found = _from_tables(info) if info.version == 3 else _from_lines(info)
    if len(found) != info.values["total_episodes"]:
        total = f"total_episodes in {info.file} is {info.values['total_episodes']}"
        raise DataError(f"{info.root}/meta lists {len(found)} episodes, but {total}. Part of it is missing: {_REMEDY}")
    return sorted(found, key=lambda episode: episode.number)


def read_tasks(info: Info) -> dict[int, str] | None:
    """Instructions by ``task_index``; None if there is no such table. Raises DataError: it is damaged."""
    if info.version == 2:
        lines = info.root / "meta/tasks.jsonl"
        return _texts(_lines(lines, ("task_index", "task")), lines) if lines.is_file() else None
    path = info.root / "meta/tasks.parquet"
    if not path.is_file():
        return None
    table = read_columns(path, lambda name: True)
    names = table.column_names  # LeRobot writes pandas tables with the text as index, called "task" or nothing
    known = [name for name in ("task", "__index_level_0__") if name in names]
    column = next(iter([*known, *(name for name in names if name != "task_index")]), "")
    if "task_index" not in names or not column:
        raise DataError(f"{path} has the columns {names}; expected task_index and task")
    return _texts([{"task_index": row["task_index"], "task": row[column]} for row in rows_of(table, path)], path)


def _texts(rows: list[dict[str, Any]], path: Path) -> dict[int, str]:
    texts: dict[int, str] = {}
    for row in rows:
        number, text = _whole(row, "task_index", path), str(row["task"] or "")
        if texts.setdefault(number, text) != text:
            raise DataError(f"{path}: task_index {number} is both {texts[number]!r} and {text!r}. Keep the right one.")
    return texts


def tables_below(folder: Path) -> list[Path]:
    """Its parquet files by name, without hidden ones: other systems leave ``._file-000.parquet`` beside a file."""
    return sorted(path for path in folder.rglob("*.parquet") if "/." not in f"/{path.relative_to(folder).as_posix()}")


def _from_tables(info: Info) -> list[Listed]:
    folder = info.root / "meta/episodes"
    files = tables_below(folder)
    if not files and info.values["total_episodes"] != 0:  # 0 is one that was created, and nothing recorded
        raise DataError(f"{folder} holds no chunk-*/file-*.parquet. Part of the data set is missing: {_REMEDY}")
    own = {"episode_index", "length", "tasks", "dataset_from_index", "dataset_to_index", "rslwm/id", "rslwm/info"}
    found = []
    for path in files:
        rows = read_columns(path, lambda name: name in own or name.startswith(("videos/", "data/")))
        if lacking := {"episode_index", "length"} - {*rows.column_names}:
            raise DataError(f"{path} has no column {min(lacking)!r}, which LeRobot v3 requires")
        for row in rows_of(rows, path):
            place = _place(row, "data", path)
            table = info.path("data_path", **place) if place else None
            found.append(_listed(row, path, table, {camera: _video(row, camera, info, path) for camera in info.filmed}))
    return found


def _listed(row: dict[str, Any], path: Path, table: Path | None, videos: dict[str, VideoPlace]) -> Listed:
    number, tasks = _whole(row, "episode_index", path), row.get("tasks")
    edges = ("dataset_from_index", "dataset_to_index")
    span = [_whole(row, edge, path) for edge in edges if row.get(edge) is not None]
    notes = (row.get("rslwm/info") or "{}").encode()
    return Listed(
        number=number,
        length=_whole(row, "length", path),
        tasks=(tasks,) if isinstance(tasks, str) else tuple(map(str, tasks)) if isinstance(tasks, list) else (),
        span=(span[0], span[1]) if len(span) == 2 else None,
        table=table,
        videos=videos,
        own={"id": row.get("rslwm/id"), "info": json_object(notes, f"{path}: rslwm/info of episode {number}")},
    )


def _whole(row: dict[str, Any], name: str, path: Path) -> int:
    value = row.get(name)
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0.5
    if number % 1 or abs(number) >= LARGEST or number != number:
        raise DataError(f"{path}: {name} is {value!r}; expected a whole number")
    return int(number)


def _place(row: dict[str, Any], prefix: str, path: Path) -> dict[str, int] | None:
    keys = {part: f"{prefix}/{part}" for part in ("chunk_index", "file_index")}
    there = all(row.get(key) is not None for key in keys.values())
    return {part: _whole(row, key, path) for part, key in keys.items()} if there else None


def _video(row: dict[str, Any], camera: str, info: Info, path: Path) -> VideoPlace:
    """By the name that the feature has in the data, or that ``data.features`` gives it."""
    ours = info.cameras[camera]
    keys = dict.fromkeys((info.columns[ours], ours))
    for key in keys:
        place, start = _place(row, f"videos/{key}", path), row.get(f"videos/{key}/from_timestamp")
        if place and start is not None:
            end = row.get(f"videos/{key}/to_timestamp")
            video = info.path("video_path", video_key=key, **place)
            if not all(isinstance(edge, int | float) for edge in (start, end) if edge is not None):
                raise DataError(f"{path}: videos/{key} lasts from {start!r} to {end!r}; expected seconds")
            return VideoPlace(video, float(start), None if end is None else float(end))
    hint = "there are none of any feature: they weren't encoded. Let LeRobot do that, or record the episode again"
    if there := sorted({name.split("/")[1] for name in row if name.startswith("videos/")}):
        flag = f"--data.features {there[0]}={info.columns[ours]}"
        hint = f"there are videos of {', '.join(there)}; {flag} would take those of {there[0]!r}"
    lacking = f"videos/{info.columns[ours]}/chunk_index, file_index and from_timestamp"
    raise DataError(f"{path}: episode {row['episode_index']} has no {lacking}; {hint}")


def _from_lines(info: Info) -> list[Listed]:
    found, path = [], info.root / "meta/episodes.jsonl"
    size = _whole({"chunks_size": 1000, **info.values}, "chunks_size", info.file)
    keys = {camera: info.columns[info.cameras[camera]] for camera in info.filmed}
    for row in _lines(path, ("episode_index", "length")):
        number = _whole(row, "episode_index", path)
        parts = {"episode_chunk": number // max(size, 1), "episode_index": number}
        videos = {camera: VideoPlace(info.path("video_path", video_key=key, **parts)) for camera, key in keys.items()}
        found.append(_listed(row, path, info.path("data_path", **parts), videos))
    return found


def _lines(path: Path, needed: tuple[str, ...]) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    if not path.is_file():
        raise DataError(f"{path} does not exist, which LeRobot v2.x requires")
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            rows.append(json_object(line, f"{path}, line {number}"))
            if any(rows[-1].get(name) is None for name in needed):
                raise DataError(f"{path}, line {number}: expected an object with {', '.join(needed)}")
    return rows


def read_columns(path: Path, wanted: Callable[[str], bool]) -> pa.Table:
    """Those columns of one of LeRobot's tables that are wanted. Raises DataError: it is missing, or damaged."""
    return parquet.read_columns(path, wanted, unfinished=_UNFINISHED)
