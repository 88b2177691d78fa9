"""Spaces are told apart by their ink."""

import pytest

from rslwm.report.palette import inks
from rslwm.study.config import PRESETS
from rslwm.study.entry import Entry


@pytest.mark.parametrize("preset", ["demo", "bridge"])
def test_no_two_spaces_of_a_preset_look_alike(preset: str) -> None:
    config = PRESETS[preset]
    families = [Entry.parse(name).open(config).spec.family for name in config.latents]
    drawn = inks(config.latents, families).values()
    assert len(set(drawn)) == len(drawn)
