"""Folders that real tools and people make, which aren't part of the repository; their kinds are tested beside this."""

import json
from pathlib import Path

import numpy as np
import pytest

from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources.opening import open_source
from rslwm.types import DataError

CASES = Path(__file__).parents[2] / "../shared/cases"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is absent")


def imported(case: str, tmp_path: Path, *features: str) -> EpisodeDataset:
    return open_source(DataConfig(uri=f"rlds:{CASES / case}", features=features)).open(tmp_path)


def left_out(dataset: EpisodeDataset) -> str:
    return "\n".join(json.loads(dataset.info_file.read_text())["rslwm"].get("left_out", []))


@pytest.mark.parametrize("case", ["R0_control", "R4_empty_split"])
def test_healthy_sets_leave_nothing_out(case: str, tmp_path: Path) -> None:
    dataset = imported(case, tmp_path)
    assert (len(dataset), dataset.cameras, left_out(dataset)) == (4, ["image"], "")
    assert set(dataset.instructions) == {"task 0", "task 1"}


def test_an_embedding_is_a_state(tmp_path: Path) -> None:
    assert imported("R13_embedding_state", tmp_path).states(0)["natural_language_embedding"].shape == (8, 512)


def test_pictures_that_differ_in_size_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every episode needs the same cameras, sizes and states"):
        imported("R8_sizes", tmp_path)


def test_depth_is_left_out(tmp_path: Path) -> None:
    dataset = imported("R1_depth_f32", tmp_path)
    assert dataset.cameras == ["image"]
    assert "steps/observation/depth: image float32 (32, 32, 1), depth" in left_out(dataset)


def test_action_parts_are_put_together(tmp_path: Path) -> None:
    dataset = imported("R2_action_parts", tmp_path)
    np.testing.assert_array_equal(dataset.actions(0), np.ones((8, 7)))
    assert "terminate_episode_2" in left_out(dataset)


def test_an_instruction_as_numbers_is_said_and_mapped(tmp_path: Path) -> None:
    dataset = imported("R3_instruction_ints", tmp_path)
    assert "steps/observation/instruction: int32 (32), an instruction as numbers, not as text" in left_out(dataset)
    mapped = imported("R3_instruction_ints", tmp_path, "instruction=instruction")
    assert mapped.instructions[0] == "push block 0"


def test_states_of_any_shape_are_kept(tmp_path: Path) -> None:
    sizes = {name: len(names) for name, names in imported("R5_states", tmp_path).state_names.items()}
    assert sizes == {"bits": 3, "eef": 6, "gripper": 1, "pose": 16, "state": 7}


def test_integer_actions_are_read(tmp_path: Path) -> None:
    np.testing.assert_array_equal(imported("R11_int_action", tmp_path).actions(0), np.ones((8, 7)))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("R6_array_record", r"array_record isn't supported, .*--out_file_format=tfrecord"),
        ("R9_bad_utf8", r"train\.tfrecord-00000-of-00001: record 0.*'steps/language_instruction' is not UTF-8"),
        ("R10_bridge_named", r"the actions follow another convention: .*100% of the steps of 'x' lie outside"),
        ("R_bridge_like/1.0.0", r"'bridge_like' is not bridge_dataset or bridge_orig(.|\n)*\naction_spec:\n  names:"),
    ],
)
def test_what_cannot_be_read_or_told_is_named(case: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        imported(case, tmp_path)
