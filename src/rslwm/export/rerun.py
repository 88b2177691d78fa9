"""Rollouts as a recording that the Rerun viewer opens."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from rslwm.export.rollouts import RunRollouts
from rslwm.serialisation import ConfigError
from rslwm.types import DataError, Episode, Progress, silent

APPLICATION = "rslwm"


def write_rerun(rollouts: RunRollouts, path: Path, progress: Progress = silent) -> None:
    """Write one file: every clip a branch of its own, in it an image of each camera, and actions and states as curves
    over the timelines ``frame`` and ``time``.

    Raises:
        DataError: the file exists.
        ConfigError: the package rerun-sdk is missing.
    """
    if path.exists():
        raise DataError(f"{path} exists. Delete it or write to another file; a recording is never overwritten.")
    try:
        rerun = importlib.import_module("rerun")
    except ImportError:
        raise ConfigError("rslwm export rerun needs the package rerun-sdk: pip install 'rslwm[rerun]'") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    recording = rerun.RecordingStream(APPLICATION)
    recording.save(partial)
    names = {"action": [*rollouts.spec.names], **rollouts.state_names}
    for done, episode in enumerate(rollouts.episodes(), 1):
        _log(rerun, recording, f"clip {done:03d}", episode, names, rollouts.spec.hz)
        progress(done, len(rollouts), "clips")
    recording.flush()
    recording.disconnect()
    partial.rename(path)


def _log(rerun: Any, to: Any, place: str, episode: Episode, names: dict[str, list[str]], hz: float) -> None:
    def root(*parts: str) -> str:
        return rerun.new_entity_path([place, *parts])

    to.log(root(), rerun.TextDocument(f"{episode.id}: {episode.instruction}"), static=True)
    curves = {"action": episode.actions, **episode.states}
    for name in curves:
        to.log(root(name), rerun.SeriesLines(names=names[name]), static=True)
    for frame in range(len(episode)):
        to.set_time("frame", sequence=frame)
        to.set_time("time", duration=frame / hz)
        for camera, shown in episode.frames.items():
            to.log(root(camera), rerun.Image(shown[frame]))
        for name, values in curves.items():
            to.log(root(name), rerun.Scalars(values[frame]))
