"""Rollouts beside the truth, in step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rslwm.evals.rows import TRUTH
from rslwm.report.formats import data_uri
from rslwm.report.run import Clips, Run
from rslwm.report.sections import Section

MAX_CLIPS = 6
"""Clips embedded in a page; a PNG of seven rows and ten 64-pixel frames is about 300 kB."""


def build(run: Run) -> dict[str, Any]:
    return {"clips": shown(run.clips, run.verdict.ranking) if run.clips else None}


def shown(clips: Clips, order: Sequence[str]) -> dict[str, Any]:
    names = [name for name in order if name in clips.frames]
    frames, height, width = clips.frames[TRUTH].shape[1:4]
    chosen = choose(quality(clips, names))
    return {
        "names": names,
        "films": [
            {"label": f"{clips.ids[i]}{f' · {word}' if word else ''}", "sheet": data_uri(clips.sheet(i, names))}
            for i, word in chosen.items()
        ],
        "columns": frames,
        "rows": len(names) + 1,
        "context": clips.context,
        "aspect": width / height,
    }


def quality(clips: Clips, names: Sequence[str]) -> np.ndarray:
    """PSNR in dB of the predicted frames of every clip, mean over the spaces; (clips,)."""
    truth = clips.frames[TRUTH][:, clips.context :].astype(np.float32)
    sheets = [clips.fitted(name)[:, clips.context :].astype(np.float32) for name in names]
    errors = np.array([((sheet - truth) ** 2).mean((1, 2, 3, 4)) for sheet in sheets])
    return (10 * np.log10(255**2 / errors.clip(1e-6))).mean(0)


def choose(scores: np.ndarray) -> dict[int, str]:
    """Clips to show by what they are: the worst, the median and the best, then others in order."""
    order = np.argsort(scores, kind="stable").tolist()
    words = {order[len(order) // 2]: "median", order[0]: "worst", order[-1]: "best"} if len(order) > 2 else {}
    return words | {i: "" for i in [i for i in range(len(order)) if i not in words][: MAX_CLIPS - len(words)]}


SECTION = Section("Rollouts", 20, build)
