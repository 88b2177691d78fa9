"""The log of a training: ``train.jsonl``, a line of figures each interval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "train.jsonl"


class TrainingLog:
    """Always written, whatever else shows it; a line holds ``step``, ``loss`` and other figures by name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME

    def append(self, step: int, **figures: float) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")

    def truncate(self, step: int) -> None:
        """Drop what a killed run wrote after this step, which will be made again, and a half-written last line."""
        if self.path.exists():
            kept = [line for line in read_log(self.path) if line["step"] <= step]
            fresh = self.path.with_suffix(".tmp")
            fresh.write_text("".join(json.dumps(line) + "\n" for line in kept))
            fresh.replace(self.path)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last one that is being written is left out."""
    lines: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
