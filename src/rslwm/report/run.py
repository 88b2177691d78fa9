"""The folder of a finished run, read for its report; everything but the verdict and the record is optional."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from PIL import Image

from rslwm.evals import films
from rslwm.evals.films import Film, require_video
from rslwm.evals.rows import TRUTH, Rows
from rslwm.report.palette import Ink, inks
from rslwm.reproduce.against import Beside
from rslwm.serialisation import load
from rslwm.study.config import StudyConfig
from rslwm.study.record import RunRecord
from rslwm.tensors import noted, opened
from rslwm.types import DataError
from rslwm.verdict.decide import Verdict
from rslwm.verdict.scale import Summary


@dataclass(frozen=True)
class Clips:
    """Rollouts beside the truth: ``frames[name]`` is (N, T, H, W, 3) uint8, the first ``context`` frames are given."""

    frames: dict[str, np.ndarray]
    context: int
    ids: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Clips | None:
        """Frames of the truth and of every space, cut to what all of them have; None without truth.

        Raises:
            DataError: a file holds no frames.
        """
        if not (folder / f"{TRUTH}.safetensors").is_file():
            return None
        frames, notes = dict[str, np.ndarray](), dict[str, Any]()
        for path in sorted(folder.glob("*.safetensors")):
            with opened(path, "numpy") as tensors:
                held = list(tensors.keys())
                if "frames" not in held:
                    raise DataError(f"{path} has no tensor 'frames'; it holds: {', '.join(held)}")
                frames[path.stem] = require_video(tensors.get_tensor("frames"), path, axes=5)
                if path.stem == TRUTH:
                    said = {"ids", "context"} & {*(tensors.metadata() or ())}
                    notes = {name: noted(tensors, name, path) for name in said}
        clips, length = (min(f.shape[axis] for f in frames.values()) for axis in (0, 1))
        ids, context = notes.get("ids") or [f"clip {i + 1}" for i in range(clips)], notes.get("context", 0)
        if not isinstance(ids, list) or not isinstance(context, int):
            raise DataError(f"{folder / TRUTH}.safetensors: ids are {ids!r:.80}, context is {context!r:.80}")
        cut = {name: array[:clips, :length] for name, array in frames.items()}
        return cls(cut, context, tuple(map(str, ids[:clips])))

    def sheet(self, index: int, names: list[str]) -> np.ndarray:
        """A clip as a sprite sheet (rows * H, T * W, 3): the truth, then ``names``, all in the truth's pixels."""
        rows = [self.fitted(name, slice(index, index + 1))[0] for name in (TRUTH, *names)]
        return rearrange(np.stack(rows), "n t h w c -> (n h) (t w) c")

    def fitted(self, name: str, which: slice = slice(None)) -> np.ndarray:
        """Clips (N, T, H, W, 3) of a space in the truth's pixels."""
        height, width = self.frames[TRUTH].shape[2:4]
        return np.stack([_fit(frames, height, width) for frames in self.frames[name][which]])


def _fit(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.BOX)) for f in frames])


@dataclass(frozen=True)
class Run:
    """What a report shows; ``config`` is the text of ``config.yaml``."""

    verdict: Verdict
    record: RunRecord
    config: str
    study: StudyConfig | None
    """What ``config`` says; None where there is none."""
    clips: Clips | None
    films: dict[str, list[Film]]
    """By space what metrics want to be seen."""
    path: Path
    beside: Beside | None = None
    """The paper's numbers, where they are asked for."""

    @property
    def note(self) -> str:
        return self.study.note if self.study else ""

    @property
    def inks(self) -> dict[str, Ink]:
        """How every space is drawn, in the order of the study."""
        return inks(self.verdict.spaces, self.verdict.families)

    def measured(self, names: Iterable[str]) -> dict[str, Summary]:
        """Of these metrics those that have a number for some space."""
        known = {metric.info.name: metric for metric in self.verdict.metrics}
        found = {name: known[name] for name in names if name in known}
        return {name: metric for name, metric in found.items() if any(bar.value is not None for bar in metric.bars)}

    def rows(self, metric: str) -> Rows | None:
        """Those of one metric; None where the run's table of measurements isn't at hand."""
        path = self.path / "rows.parquet"
        return Rows.load(path, metric) if path.is_file() else None

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read a run's folder.

        Raises:
            DataError: there is no verdict or no record, or a file is damaged.
            ConfigError: ``config.yaml`` is damaged.
        """
        config = path / "config.yaml"
        return cls(
            verdict=Verdict.load(path / "verdict.json"),
            record=RunRecord.load(path),
            config=config.read_text(errors="replace") if config.is_file() else "",
            study=load(StudyConfig, config) if config.is_file() else None,
            clips=Clips.load(path / "clips"),
            path=path,
            films={file.stem: films.load(file) for file in sorted((path / "films").glob("*.safetensors"))},
        )
