"""The data stage: what it refuses, and what it tells of data that are used in part."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreign import NAMES, Foreign, shown
from rslwm.data.config import DataConfig
from rslwm.data.store import Readable
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.stages.base import DataStage, FramesStage
from rslwm.study.subjects import Subject
from rslwm.types import DataError
from studies import run


def read(data: DataConfig, root: Path) -> tuple[dict[str, Any], Readable]:
    """What the data stage says, and the frames."""
    subject = Subject(study=Study(StudyConfig(data=data)))
    work = run([subject.pull(FramesStage)], root)
    return work.facts(subject.pull(DataStage)), work.open(subject.pull(FramesStage))


def test_what_data_check_calls_an_error_stops_a_study_before_anything_trains(tmp_path: Path) -> None:
    made = Foreign()
    made.keep([k for k in range(sum(made.lengths)) if k not in (11, 12)])
    root = made.write(tmp_path / "set")
    with pytest.raises(DataError, match=r"1 errors, see `rslwm data check`:\n- episode 'episode-000001': a gap"):
        read(DataConfig(f"lerobot:{root}"), tmp_path / "run")


def test_a_question_about_actions_keeps_its_draft(tmp_path: Path) -> None:
    feature = {"dtype": "float32", "shape": [7], "names": ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]}
    root = Foreign(features={"action": feature}).write(tmp_path / "set")
    with pytest.raises(DataError, match=r"(?s)don't say what they are.*\n\naction_spec:\n"):
        read(DataConfig(f"lerobot:{root}"), tmp_path / "run")


def test_a_video_fault_stops_the_frames(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    (video,) = root.rglob("*.mp4")
    video.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"file-000\.mp4"):
        read(DataConfig(f"lerobot:{root}"), tmp_path / "run")


def test_what_is_left_out_stands_in_the_facts(tmp_path: Path) -> None:
    made = Foreign(cameras=("observation.images.depth", "observation.images.front"))
    made.features = {"observation.images.depth": {"dtype": "video", "shape": [32, 32, 1], "is_depth_map": True}}
    facts, _ = read(DataConfig(f"lerobot:{made.write(tmp_path / 'set')}"), tmp_path / "run")
    assert facts["left_out"] == ["camera 'depth' is a depth map, and left out"]
    assert facts["cameras"] == ["front"]


def test_mapped_features_and_a_camera_s_whole_name_reach_the_frames(tmp_path: Path) -> None:
    made = Foreign(images=True, cameras=("image",))
    made.rows["actions"] = made.rows.pop("action")
    root = made.write(tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["actions"] = info["features"].pop("action") | {"names": NAMES}
    (root / "meta/info.json").write_text(json.dumps(info))
    config = DataConfig(f"lerobot:{root}", camera="observation.images.front", image_size=32)
    _, store = read(replace(config, features=("action=actions", "observation.images.front=image")), tmp_path / "run")
    assert shown(np.asarray(store["episode-000002"])) == [(2, t) for t in range(9)]
    assert store.meta["camera"] == "front"


def test_other_names_and_another_spec_are_other_data(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    spec = tmp_path / "spec.yaml"
    keys = set()
    for features, content in (((), ""), (("observation.state=observation.state",), ""), ((), "a"), ((), "b")):
        spec.write_text(content)
        given = str(spec) if content else ""
        study = Study(StudyConfig(data=DataConfig(f"lerobot:{root}", features=features, action_spec=given)))
        keys.add(Subject(study=study).pull(FramesStage).key)
    assert len(keys) == 4


def test_nothing_is_written_into_the_data(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    read(DataConfig(f"lerobot:{root}"), tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
