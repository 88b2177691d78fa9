"""Whether the parts of a LeRobot folder agree: metadata, rows, time stamps, and how long videos last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rslwm.data.lerobot_episodes import Listed, read_tasks
from rslwm.data.lerobot_info import Info, video_details
from rslwm.data.lerobot_table import Table
from rslwm.data.video import length
from rslwm.types import DataError

Place = tuple[str, str]


def contradictions(info: Info, episodes: Sequence[Listed], table: Table, names: Mapping[int, str]) -> Iterator[Place]:
    """Place and description of everything that disagrees.

    ``episodes`` are all that are listed, empty ones too; ``names`` the ids of the others, by their number. Raises
    DataError: a table can't be read.
    """
    yield from _metadata(info, episodes, table)
    for episode in (episode for episode in episodes if episode.length):
        where = f"episode {names[episode.number]!r}"
        if found := _rows(episode, table) or _steps(episode, table, info.fps):
            yield where, found
        else:
            yield from _videos(episode, table, info, where)


def _metadata(info: Info, episodes: Sequence[Listed], table: Table) -> Iterator[Place]:
    """Totals; rows of episodes that are listed as empty or not at all; what is listed twice; and lost tasks."""
    recorded, listed, total = len(table), sum(episode.length for episode in episodes), info.values.get("total_frames")
    total = listed if total is None else total
    if not recorded == listed == total:
        yield str(info.file), f"{recorded} rows in data, {listed} in the metadata's episodes, {total} in total_frames"
    lengths, counts = {e.number: e.length for e in episodes}, Counter(e.number for e in episodes)
    if twice := [number for number, times in counts.items() if times > 1]:
        yield str(info.file.parent), f"episode {twice[0]} is listed twice"
    for number in table.owners():
        if number >= 0 and not lengths.get(number):  # rows that nothing gives to an episode are in the totals
            rows = _span(table.rows(number))
            says = "is empty (length 0, no steps)" if number in lengths else "is not listed"
            yield f"episode {number}", f"it {says} in the metadata, but {rows} of data have episode_index {number}"
    index, tasks = table.index("task_index"), read_tasks(info)
    if index is not None and tasks is not None and (lost := {*np.unique(index).tolist()} - {*tasks}):
        yield str(info.root / "meta"), f"rows have task_index {min(lost)}, which the table of tasks doesn't list"


def _rows(episode: Listed, table: Table) -> str:
    """Whether the rows that the metadata give to an episode are those with its ``episode_index``."""
    rows, index = table.rows(episode.number), table.index("index")
    start, end = episode.span or (0, episode.length)
    if end - start != episode.length:
        return f"rows {start} to {end} for a length of {episode.length}"
    if episode.length > len(table):
        return f"its length is {episode.length}, and there are {len(table)} rows in all"
    expected = np.arange(start, end)
    place = rows if index is None else index[rows]
    if episode.span and not any(np.array_equal(np.sort(found), expected) for found in (place, rows)):
        outside, lacking = np.setdiff1d(place, expected), np.setdiff1d(expected, place)
        number = f"its episode_index {episode.number}"
        parts = [f"{_span(outside)} have {number}, too"] if len(outside) else []
        parts += [f"{_span(lacking)} don't have {number}"] if len(lacking) else []
        parts = parts or [f"{len(rows)} rows have {number}"]
        return f"the metadata give it rows {start} to {end - 1}, but {', '.join(parts)}"
    if len(rows) != episode.length:
        return f"{len(rows)} rows have its episode_index {episode.number}, its length is {episode.length}"
    return ""


def _span(rows: np.ndarray) -> str:
    if len(rows) == 1:
        return f"row {rows[0]}"
    return f"rows {rows.min()} to {rows.max()}" + ("" if np.ptp(rows) == len(rows) - 1 else f" ({len(rows)} of them)")


def _steps(episode: Listed, table: Table, fps: float) -> str:
    """Whether an episode's steps follow each other at the rate of the data set: no gap, no drift."""
    rows, times = table.rows(episode.number), table.times(episode.number, fps)
    if not np.isfinite(times).all():
        return f"the time stamp of step {int(np.flatnonzero(~np.isfinite(times))[0])} is not a number"
    frame = table.index("frame_index")
    steps, period = np.diff(times), 1 / fps
    jumps = np.flatnonzero((steps <= 0) | (steps > 1.5 * period))
    if frame is not None and not len(jumps):
        jumps = np.flatnonzero(np.diff(frame[rows]) != 1)
    uniform = len(steps) > 1 and np.ptp(steps) < 0.1 * period and steps.min() > 0
    drift = abs(times - times[0] - np.arange(len(times)) * period).max()
    apart = f"{drift:.3f} s apart after {len(times)} steps"
    if uniform and drift > period / 2:
        rate = f"at {1 / steps.mean():.4g} Hz, fps in info.json is {fps:g}"
        return f"the time stamps run {rate}: {apart}. Correct whichever is wrong"
    if len(jumps):
        k = int(jumps[np.argmax(steps[jumps])])
        counted = "" if frame is None else f"frame_index {frame[rows[k]]} to {frame[rows[k + 1]]}, "
        gap = f"step {k + 1} comes {steps[k]:.3f} s after step {k} instead of {period:.3f} s ({counted}{fps:g} Hz)"
        several = f", the largest of {len(jumps)}" if len(jumps) > 1 else ""
        remedy = "an action then doesn't lead from one frame to the next. Split the episode there, or remove it"
        return f"a gap: {gap}{several}; {remedy}"
    return f"the time stamps drift from {fps:g} Hz: {apart}" if drift > period / 2 else ""


def _videos(episode: Listed, table: Table, info: Info, where: str) -> Iterator[Place]:
    """Whether videos last as long as the rows: if rows were dropped, nobody can tell which frames are left."""
    times = table.times(episode.number, info.fps)
    for camera, video in episode.videos.items():
        details = video_details(info.features[info.cameras[camera]])
        declared = details.get("video.fps") or details.get("fps")
        rate = declared if isinstance(declared, int | float) and declared > 0 else info.fps
        allowed = 0.5 / info.fps + (0.0 if abs(rate / info.fps - 1) < 0.02 else 1 / rate)
        try:
            end = video.end if video.end is not None else length(video.path)
        except DataError as error:
            yield f"{where}, camera {camera!r}", str(error)
            continue
        last = times[-1] + 1 / info.fps
        if end and abs(end - video.start - last) > allowed:
            what = f"{video.start:.3f} to {end:.3f} s of video at {info.fps:g} Hz for {len(times)} steps"
            begin = f" and begin at {times[0]:.3f} s: time stamps count from the beginning of an episode"
            what += f", which end at {last:.3f} s{begin if times[0] > 1 / info.fps else ''}"
            yield f"{where}, camera {camera!r}", what
