"""Trackers: TensorBoard, wandb or trackio show what the training logs say, as they are written.

A thread reads the logs, so that trainings know nothing of trackers: neither their results nor their speed nor whether
they go on depends on one.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from rslwm.files import write_whole
from rslwm.serialisation import content_hash
from rslwm.train.loop import LOG, read_log

Kind = Literal["tensorboard", "wandb", "trackio"]

POLL_SECONDS = 2.0
PARTIAL = ".partial"


Open = Callable[[str], Any]
"""Opens a run by its name, or goes on with it; it has ``log(metrics, step=...)`` and ``finish()``."""


class _TensorBoardRun:
    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self.finish = writer.close

    def log(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


def _tensorboard(root: Path) -> Open:
    package = importlib.import_module("torch.utils.tensorboard")
    return lambda name: _TensorBoardRun(package.SummaryWriter(str(root / "tensorboard" / name)))


def _wandb(root: Path) -> Open:
    package = importlib.import_module("wandb")

    def start(name: str) -> Any:
        run = content_hash(str(root), name)  # of the same name in another folder, it is another run
        return package.init(
            project="rslwm", group=root.name, name=name, id=run, dir=root, resume="allow", reinit="create_new"
        )

    return start


def _trackio(root: Path) -> Open:
    package, place = importlib.import_module("trackio"), f"{root.name}-{content_hash(str(root))[:6]}"

    def start(name: str) -> Any:
        # In one context, a new run would end the one before.
        return contextvars.Context().run(
            package.init, project="rslwm", group=place, name=f"{place} {name}", resume="allow", embed=False
        )

    return start


TRACKERS: dict[Kind, Callable[[Path], Open]] = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}


class Mirror:
    """Forwards new lines of the logs in ``root/stages`` to a tracker, under the ``names`` of their stages' folders.

    Which step was the last is kept in ``record``: lines that a resumed training writes again, or that an earlier
    command has forwarded, are not shown twice.
    """

    def __init__(self, root: Path, start: Open, record: Path, names: Mapping[str, str]) -> None:
        self.root, self.start, self.record, self.names = root, start, record, names
        self.reached: dict[str, int] = json.loads(record.read_text()) if record.exists() else {}
        self._runs: dict[str, Any] = {}
        self._sizes: dict[Path, int] = {}

    def follow(self) -> None:
        """Forward what has been written since the last call."""
        before = dict(self.reached)
        stages = self.root / "stages"
        for path in sorted([*stages.glob(f"*/{LOG}"), *stages.glob(f"*/*/{LOG}")]):
            with contextlib.suppress(FileNotFoundError):  # a finished stage's folder has just got its final name
                size = path.stat().st_size
                if self._sizes.get(path) != size:
                    self._forward(path)
                    self._sizes[path] = size
        if self.reached != before:
            write_whole(self.record, json.dumps(self.reached))

    def close(self) -> None:
        while self._runs:
            self._runs.popitem()[1].finish()

    def _forward(self, path: Path) -> None:
        stage, *part = path.parent.relative_to(self.root / "stages").parts
        finished = stage.removesuffix(PARTIAL)
        name = "-".join([self.names.get(finished, finished), *part])
        for line in read_log(path):
            if line["step"] > self.reached.get(name, 0):
                if name not in self._runs:
                    self._runs[name] = self.start(name)
                self._runs[name].log({k: v for k, v in line.items() if k != "step"}, step=line["step"])
                self.reached[name] = line["step"]
        if name in self._runs and stage == finished:
            self._runs.pop(name).finish()


@contextlib.contextmanager
def tracking(kind: Kind, root: Path, names: Mapping[str, str] | None = None) -> Iterator[None]:
    """While the block runs, and once more at its end, forward the logs of the run in ``root`` to a tracker.

    If the tracker fails, its error is printed and the block goes on; the next command forwards what is missing. Raises
    ImportError if it isn't installed.
    """
    root = root.absolute()
    try:
        start = TRACKERS[kind](root)
    except ImportError as error:
        raise ImportError(f"{kind} is not installed ({error}); pip install 'rslwm[trackers]'") from None
    mirror, done = Mirror(root, start, root / f".{kind}.json", names or {}), threading.Event()

    def follow() -> None:
        try:
            while not done.wait(POLL_SECONDS):
                mirror.follow()
            mirror.follow()
        finally:
            mirror.close()

    thread = threading.Thread(target=follow, name=kind, daemon=True)  # a second Ctrl-C doesn't wait for a network
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
