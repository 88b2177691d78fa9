"""--track shows a study's trainings under names that say what they are."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import rslwm.cli.compare
from rslwm.cli.compare import Compare, Train, tracked
from rslwm.cli.flags import parse
from rslwm.study.config import PRESETS

SMOKE = replace(PRESETS["smoke"], latents=("small-vae", "other=small-vae@1", "small-vae+16"))


@pytest.mark.parametrize("command", [Train, Compare])
def test_nothing_is_tracked_unless_asked_for(command: type[Train] | type[Compare]) -> None:
    assert parse(command, "rslwm", ["smoke"]).track is None
    assert parse(command, "rslwm", ["smoke", "--track", "wandb"]).track == "wandb"


def test_without_a_tracker_nothing_is_written(tmp_path: Path) -> None:
    with tracked(None, SMOKE, tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_every_stage_has_a_readable_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, str] = {}

    @contextmanager
    def tracking(kind: str, root: Path, names: Mapping[str, str]) -> Iterator[None]:
        assert (kind, root) == ("trackio", tmp_path)
        found.update(names)
        yield

    monkeypatch.setattr(rslwm.cli.compare, "tracking", tracking)
    with tracked("trackio", SMOKE, tmp_path):
        pass
    assert len(set(found.values())) == len(found)
    models = [name for folder, name in found.items() if folder.startswith("world-model-")]
    patterns = ["small-vae-seed-0", "other-seed-1", r"small-vae\+16-seed-0"]
    assert len(models) == len(patterns)
    for pattern, name in zip(patterns, models, strict=True):
        assert re.fullmatch(rf"world-model-{pattern}-[0-9a-f]{{6}}", name)
