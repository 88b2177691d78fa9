"""``events.jsonl`` in a run's folder: what became of which stage, a line each, for whoever follows it from outside."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from rslwm.run.stage import Stage

EVENTS = "events.jsonl"
ADVANCED_SECONDS = 5.0
"""Between two lines about how far one stage is."""


class EventLog:
    """Appends a line an event to a file, which runs of the same folder share one after the other.

    A line is a JSON object: ``event`` (started, advanced, finished, failed), ``kind``, ``label`` and ``key`` of the
    stage, ``time`` (UTC, ISO 8601), and ``seconds``: since this run started the stage or, of a finished one, of all its
    attempts. An advanced stage has ``done``, ``total`` and ``message``, a failed one ``why``; a finished one
    ``fetched``, the address of the cache that it came from, and ``trouble``, what was wrong with the cache.

    A line is written at once and whole; a kill can cut the last one short, and the next run begins a new line. Where
    the file can't be written, a full disk for instance, lines are left out: the run matters more.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.file, self._clock = file, clock
        self._began: dict[Stage[Any], float] = {}
        self._due: dict[Stage[Any], float] = {}
        self._out: FileIO | None = None

    def __enter__(self) -> EventLog:
        with suppress(OSError):
            self._out = FileIO(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644), "r+")
            if (size := os.fstat(self._out.fileno()).st_size) and os.pread(self._out.fileno(), 1, size - 1) != b"\n":
                self._out.write(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()

    def started(self, stage: Stage[Any]) -> None:
        self._began[stage] = self._clock()
        self._write("started", stage, 0.0)

    def advanced(self, stage: Stage[Any], done: int, total: int, message: str) -> None:
        if self._clock() >= self._due.get(stage, 0.0):
            self._due[stage] = self._clock() + ADVANCED_SECONDS
            self._write("advanced", stage, self._since(stage), done=done, total=total, message=message)

    def finished(self, stage: Stage[Any], seconds: float, fetched: str = "", trouble: str = "") -> None:
        told = {"fetched": fetched, "trouble": trouble}
        self._write("finished", stage, seconds, **{name: text for name, text in told.items() if text})

    def failed(self, stage: Stage[Any], why: str) -> None:
        self._write("failed", stage, self._since(stage), why=why)

    def _since(self, stage: Stage[Any]) -> float:
        return self._clock() - self._began[stage]

    def _write(self, event: str, stage: Stage[Any], seconds: float, **more: Any) -> None:
        named = {"event": event, "kind": stage.kind, "label": stage.label, "key": stage.key}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({**named, "time": now, "seconds": round(seconds, 2), **more})
        if self._out is not None:
            with suppress(OSError):
                self._out.write(f"{line}\n".encode())
