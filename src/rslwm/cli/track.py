"""The --track flag."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rslwm.study.config import StudyConfig
from rslwm.train.track import Kind, tracking


@contextmanager
def tracked(kind: Kind | None, config: StudyConfig, out: Path) -> Iterator[None]:
    """Show the trainings of a study's stages, which are done inside, under readable names; None shows nothing."""
    if kind is None:
        yield
        return
    from rslwm.run.stage import closure
    from rslwm.study.graph import Study

    stages = closure(Study(config).targets)
    names = {f"{s.kind}-{s.key}": f"{s}-{s.key[:6]}".replace(" ", "-") for s in stages}
    with tracking(kind, out, names):
        yield
