"""What a study leaves in its folder beside its stages."""

import json
from types import SimpleNamespace

import numpy as np
from safetensors.numpy import load_file, save_file

from rslwm.report.run import Clips
from rslwm.study.compare import _write_clips
from rslwm.study.stages.metric import CLIPS


def evaluated(folder, name: str, length: int, level: int = 0) -> SimpleNamespace:
    """A variant whose rollouts have two clips of one grey."""
    rollouts = folder / f"rollouts-{name}-{level}"
    rollouts.mkdir(exist_ok=True)
    frames = np.full((2, length, 4, 4, 3), level, np.uint8)
    metadata = {"context": "2", "ids": json.dumps(["x", "y"])}
    save_file({"frames": frames, "truth": np.full_like(frames, 255)}, rollouts / CLIPS, metadata)
    return SimpleNamespace(entry=SimpleNamespace(name=name), pull=lambda stage: rollouts)


def write(folder, *variants: SimpleNamespace) -> None:
    _write_clips(variants, SimpleNamespace(folder=lambda stage: stage), folder / "clips")


def test_clips_of_spaces_that_no_longer_take_part_go(tmp_path):
    write(tmp_path, evaluated(tmp_path, "small-vae", 5), evaluated(tmp_path, "old", 3))
    write(tmp_path, evaluated(tmp_path, "small-vae", 9), evaluated(tmp_path, "v1.5 +16", 9))
    clips = Clips.load(tmp_path / "clips")
    assert {name: frames.shape[1] for name, frames in clips.frames.items()} == {
        "truth": 9,
        "small-vae": 9,
        "v1.5 +16": 9,
    }


def test_of_several_seeds_the_first_is_shown(tmp_path):
    write(tmp_path, evaluated(tmp_path, "a", 4, 1), evaluated(tmp_path, "b", 4, 9), evaluated(tmp_path, "a", 4, 2))
    assert (load_file(tmp_path / "clips/a.safetensors")["frames"] == 1).all()
    assert (load_file(tmp_path / "clips/truth.safetensors")["frames"] == 255).all()
