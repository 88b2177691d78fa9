"""What features.json may list, feature by feature: read, or left out and said."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordings import rendered
from rslwm.cli.main import main
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources.opening import open_source
from rslwm.types import DataError
from tfds_folder import STEPS, TEXT, Features, image, pictures, rlds, robot, tensor


def imported(folder: Path, tmp_path: Path, *features: str) -> EpisodeDataset:
    return open_source(DataConfig(uri=f"rlds:{folder}", features=features)).open(tmp_path)


def left_out(dataset: EpisodeDataset) -> str:
    return "\n".join(json.loads(dataset.info_file.read_text())["rslwm"].get("left_out", []))


def test_a_plain_set_leaves_nothing_out(tmp_path: Path) -> None:
    dataset = imported(robot(tmp_path / "r", {}), tmp_path)
    assert left_out(dataset) == ""
    assert dataset.instructions == ["task 0", "task 1", "task 2"]


GREY = pictures(rendered(STEPS, 16, 5)[..., :1].repeat(3, axis=-1))


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("depth", image(16, 16, 1, dtype="float32")),
        ("depth", image(16, 16, 1, dtype="uint16")),
        ("a_range_finder", image(16, 16, 1, dtype="uint16")),
        ("front_Depth", image(16, 16, 3)),
        ("a_grey", image(16, 16, 1)),
    ],
)
def test_pictures_without_colours_are_left_out_and_said(tmp_path: Path, name: str, feature: dict[str, Any]) -> None:
    dataset = imported(robot(tmp_path / "r", {f"steps/observation/{name}": (feature, GREY)}), tmp_path)
    assert dataset.cameras == ["image"]
    assert f"steps/observation/{name}: image" in left_out(dataset)


def test_depth_as_a_tensor_is_left_out_and_said(tmp_path: Path) -> None:
    depth = {"steps/observation/depth": (tensor(4, 4), np.ones(STEPS * 16, np.float32))}
    dataset = imported(robot(tmp_path / "r", depth), tmp_path)
    assert "depth" not in dataset.state_names
    assert "steps/observation/depth: float32 (4, 4), depth" in left_out(dataset)


def test_a_grey_camera_is_one_where_there_is_no_other(tmp_path: Path) -> None:
    grey: Features = {"steps/observation/camera": (image(16, 16, 1), GREY)}
    dataset = imported(robot(tmp_path / "r", grey, without=("steps/observation/image",)), tmp_path)
    assert dataset.cameras == ["camera"]


def test_a_grey_camera_is_taken_when_asked_for(tmp_path: Path) -> None:
    folder = robot(tmp_path / "r", {"steps/observation/camera": (image(16, 16, 1), GREY)})
    assert imported(folder, tmp_path, "observation.images.grey=camera").cameras == ["grey", "image"]


@pytest.mark.parametrize(
    "feature",
    [tensor(16, 16, 3), tensor(16, 16, 1), tensor(3, 16, 16, dtype="uint8"), tensor(16, 16, 1, dtype="uint16")],
)
def test_numbers_in_the_shape_of_pictures_are_no_state_and_said(tmp_path: Path, feature: dict[str, Any]) -> None:
    count = STEPS * int(np.prod([int(n) for n in feature["tensor"]["shape"]["dimensions"]]))
    values: Any = np.ones(count) if feature["tensor"]["dtype"] == "float32" else [1] * count
    folder = robot(tmp_path / "r", {"steps/observation/view": (feature, values)})
    dataset = imported(folder, tmp_path)
    assert "view" not in dataset.state_names
    assert "shaped like pictures, which are read as uint8 (H, W, channels) only" in left_out(dataset)
    assert "view" in imported(folder, tmp_path, "observation.state.view=view").state_names


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (("action=action", "action=action"), "names action twice"),
        (("observation.images.a=image", "observation.images.a=image"), r"names observation\.images\.a twice"),
        (("instruction=language_instruction", "instruction=file_path"), "names instruction twice"),
        (("observation.images.=image",), "is not OURS=THEIRS"),
    ],
)
def test_a_name_is_given_once(tmp_path: Path, mapping: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rlds(robot(tmp_path / "r", {}), mapping)


def test_a_folder_of_configurations_names_the_versions_below(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    robot(tmp_path / "set/1.0.0", {})
    (tmp_path / "above").mkdir()
    (tmp_path / "set").rename(tmp_path / "above/small")
    with pytest.raises(DataError, match=r"Give one of the folders in it: small/1\.0\.0"):
        rlds(tmp_path / "above")


def test_an_episode_s_number_may_be_a_text(tmp_path: Path) -> None:
    named: Features = {"episode_metadata/episode_id": (TEXT, [b"ep-7"])}
    assert next(rlds(robot(tmp_path / "r", named)).episodes()).id == "/raw/0.h5:ep-7"


def test_pictures_in_a_tensor_are_a_camera(tmp_path: Path) -> None:
    frames = rendered(STEPS, 16, 4)
    raw = (tensor(16, 16, 3, dtype="uint8"), frames.ravel().tolist())
    packed = (tensor(16, 16, 3, dtype="uint8", encoding="zlib"), [zlib.compress(f.tobytes()) for f in frames])
    folder = robot(tmp_path / "r", {"steps/observation/raw": raw, "steps/observation/packed": packed})
    episode = next(rlds(folder).episodes())
    np.testing.assert_array_equal(episode.frames["raw"], frames)
    np.testing.assert_array_equal(episode.frames["packed"], frames)
    assert imported(folder, tmp_path).cameras == ["image", "packed", "raw"]


def test_a_goals_picture_is_not_the_default_camera(tmp_path: Path) -> None:
    goal = {"steps/goal_image": (image(16, 16, 3), pictures(rendered(STEPS, 16, 2)))}
    assert imported(robot(tmp_path / "r", goal), tmp_path).cameras == ["image", "goal_image"]


def test_a_name_that_is_no_folder_name_is_read(tmp_path: Path) -> None:
    assert len(imported(robot(tmp_path / "r", {}, name="my robot"), tmp_path)) == 3


def test_jpeg_and_png_are_both_read(tmp_path: Path) -> None:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rendered(1, 16, 3)[0]).save(file, "JPEG", quality=95)
    dataset = imported(
        robot(tmp_path / "r", {"steps/observation/wrist": (image(16, 16, 3), [file.getvalue()] * STEPS)}), tmp_path
    )
    assert dataset.cameras == ["image", "wrist"]


def test_states_of_any_shape_and_type_are_kept_and_named(tmp_path: Path) -> None:
    pose = np.arange(STEPS * 16, dtype=np.float32)
    states: Features = {
        "steps/observation/gripper": (tensor(), np.arange(STEPS, dtype=np.float32)),
        "steps/observation/pose": (tensor(4, 4), pose),
        "steps/observation/bits": (tensor(3, dtype="int32"), [*range(-STEPS, 2 * STEPS)]),
        "steps/observation/closed": (tensor(dtype="bool"), [1, 0] * (STEPS // 2)),
        "steps/observation/eef": (tensor(6, dtype="float64"), np.ones(STEPS * 6, np.float32)),
        "steps/observation/arm/joints": (tensor(2), np.ones(STEPS * 2, np.float32)),
        "steps/observation/mode": ({"classLabel": {"numClasses": "3"}}, [2] * STEPS),
    }
    states["steps/observation/bits"] = (tensor(3, dtype="int32"), [n % 5 for n in range(3 * STEPS)])
    dataset = imported(robot(tmp_path / "r", states), tmp_path)
    sizes = {name: len(names) for name, names in dataset.state_names.items()}
    assert sizes == {"gripper": 1, "pose": 16, "bits": 3, "closed": 1, "eef": 6, "arm.joints": 2, "mode": 1}
    np.testing.assert_array_equal(dataset.states(0)["pose"], pose.reshape(STEPS, 16))
    np.testing.assert_array_equal(dataset.states(0)["bits"].ravel(), states["steps/observation/bits"][1])
    assert dataset.state_names["pose"][:2] == ["pose_0_0", "pose_0_1"]
    assert left_out(dataset) == ""


@pytest.mark.parametrize(
    ("dtype", "encoding"), [("float32", "zlib"), ("float64", "bytes"), ("uint8", "zlib"), ("bool", "bytes")]
)
def test_packed_tensors_are_unpacked(tmp_path: Path, dtype: str, encoding: str) -> None:
    values = np.random.default_rng(0).integers(0, 2, (STEPS, 2, 3)).astype(dtype)
    packed = [zlib.compress(v.tobytes()) if encoding == "zlib" else v.tobytes() for v in values]
    state = {"steps/observation/contact": (tensor(2, 3, dtype=dtype, encoding=encoding), packed)}
    dataset = imported(robot(tmp_path / "r", state), tmp_path)
    np.testing.assert_array_equal(dataset.states(0)["contact"], values.reshape(STEPS, 6).astype(np.float32))


def test_negative_and_large_integers_are_read(tmp_path: Path) -> None:
    values = [-1, -(2**40), 2**40, 0, 127, 128]
    state = {"steps/observation/ticks": (tensor(dtype="int64"), [v % 2**64 for v in values])}
    dataset = imported(robot(tmp_path / "r", state), tmp_path)
    np.testing.assert_array_equal(dataset.states(0)["ticks"][:, 0], np.array(values, np.float32))


@pytest.mark.parametrize(
    ("key", "feature", "values", "said"),
    [
        ("observation/cloud", tensor(1000, 3), np.zeros(STEPS * 3000, np.float32), "3000 values a step are no state"),
        ("observation/tokens", tensor(-1), np.zeros(STEPS, np.float32), "a size that varies"),
        ("observation/names", tensor(2, dtype="string"), [b"a"] * 2 * STEPS, "several texts a step"),
        ("observation/half", tensor(2, dtype="bfloat16"), np.zeros(STEPS * 2, np.float32), "a type that isn't read"),
        ("observation/sound", {"audio": {}, "pythonClassName": "x.y.Audio"}, [1] * STEPS, "a feature of class Audio"),
        ("observation/boxes", {"sequence": {"feature": tensor(4)}}, np.zeros(8, np.float32), "a list inside every"),
        ("language_embedding", tensor(4), np.zeros(STEPS * 4, np.float32), "not part of the observation"),
        ("observation/note", TEXT, [b"hm"] * STEPS, "a text; --data.features instruction=steps/observation/note"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_listed_with_the_reason(
    tmp_path: Path, key: str, feature: dict[str, Any], values: Any, said: str
) -> None:
    dataset = imported(robot(tmp_path / "r", {f"steps/{key}": (feature, values)}), tmp_path)
    line = next(line for line in left_out(dataset).splitlines() if line.startswith(f"steps/{key}: "))
    assert said in line


def test_what_is_recorded_once_an_episode_is_listed(tmp_path: Path) -> None:
    once: Features = {"episode_metadata/thumbnail": (image(16, 16, 3), pictures(rendered(1, 16, 1)))}
    once["episode_metadata/has_image"] = (tensor(dtype="bool"), [1])
    dataset = imported(robot(tmp_path / "r", once), tmp_path)
    assert dataset.cameras == ["image"]
    assert left_out(dataset) == "recorded once an episode: episode_metadata/has_image, episode_metadata/thumbnail"


CODES = [*b"push", *bytes(4)] * STEPS


def test_an_instruction_as_numbers_is_said_and_read_when_asked_for(tmp_path: Path) -> None:
    key = "steps/observation/instruction"
    coded = {key: (tensor(8, dtype="int32"), CODES)}
    folder = robot(tmp_path / "r", coded, without=("steps/language_instruction",))
    dataset = imported(folder, tmp_path)
    assert set(dataset.instructions) == {""}
    assert "instruction" not in dataset.state_names
    assert f"{key}: int32 (8), an instruction as numbers, not as text" in left_out(dataset)
    assert "no instruction: there is no text" in left_out(dataset)
    assert set(imported(folder, tmp_path, "instruction=instruction").instructions) == {"push"}


def test_embeddings_of_an_instruction_are_no_text(tmp_path: Path) -> None:
    embedded = {"steps/observation/instruction_vector": (tensor(4), np.ones(STEPS * 4, np.float32))}
    dataset = imported(robot(tmp_path / "r", embedded, without=("steps/language_instruction",)), tmp_path)
    assert "no instruction: there is no text" in left_out(dataset)


def test_the_texts_there_are_stand_in_the_message(tmp_path: Path) -> None:
    other = {"steps/task": (TEXT, [b"stack"] * STEPS)}
    folder = robot(tmp_path / "r", other, without=("steps/language_instruction",))
    assert "no instruction: texts are steps/task; --data.features instruction=KEY takes one" in left_out(
        imported(folder, tmp_path)
    )
    assert set(imported(folder, tmp_path, "instruction=steps/task").instructions) == {"stack"}


def test_of_several_instructions_the_first_that_says_something_counts(tmp_path: Path) -> None:
    several: Features = {
        "steps/language_instruction": (TEXT, [b""] * STEPS),
        "steps/language_instruction_2": (TEXT, [b"open"] * STEPS),
        "steps/language_instruction_3": (TEXT, [b"close"] * STEPS),
    }
    assert set(imported(robot(tmp_path / "r", several), tmp_path).instructions) == {"open"}
    assert set(imported(tmp_path / "r", tmp_path, "instruction=language_instruction_3").instructions) == {"close"}


def test_an_instruction_may_be_a_string_tensor_or_stand_in_the_metadata(tmp_path: Path) -> None:
    none = ("steps/language_instruction",)
    tensors = {"steps/observation/natural_language_instruction": (tensor(dtype="string"), [b"a"] * STEPS)}
    assert set(imported(robot(tmp_path / "a", tensors, without=none), tmp_path).instructions) == {"a"}
    once = {"episode_metadata/language_instruction": (TEXT, [b"b"])}
    assert set(imported(robot(tmp_path / "b", once, without=none), tmp_path).instructions) == {"b"}


def test_an_instruction_that_changes_is_said(tmp_path: Path) -> None:
    changing = {"steps/language_instruction": (TEXT, [b"open"] * 2 + [b"close"] * (STEPS - 2))}
    dataset = imported(robot(tmp_path / "r", changing), tmp_path)
    assert set(dataset.instructions) == {"open"}
    assert "the instruction changes inside 3 episodes" in left_out(dataset)


def test_names_are_mapped_with_or_without_their_prefix(tmp_path: Path) -> None:
    more: Features = {
        "steps/observation/rgb": (image(16, 16, 3), pictures(rendered(STEPS, 16, 8))),
        "steps/proprio": (tensor(3), np.ones(STEPS * 3, np.float32)),
        "steps/actions": (tensor(7), np.zeros(STEPS * 7, np.float32)),
    }
    folder = robot(tmp_path / "r", more)
    features = ("observation.images.front=rgb", "observation.state=steps/proprio", "action=actions")
    dataset = imported(folder, tmp_path, *features)
    assert dataset.cameras == ["front", "image"]
    assert [*dataset.states(0)] == ["state"]
    assert not dataset.actions(0).any()
    assert dataset.root != imported(folder, tmp_path).root


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("action", "'action' is not OURS=THEIRS"),
        ("pictures=rgb", "'pictures' in 'pictures=rgb' is nothing of ours; there are action, instruction"),
        ("action=acts", r"action=acts: .*features\.json has no 'acts'; it has .*steps/action: float32 \(7\)"),
        ("observation.images.front=action", r"steps/action of .* is float32 \(7\), not a picture"),
        ("observation.images.front=depth", r"depth of .* is image float32 \(16, 16, 1\), not a picture of colours"),
        ("observation.state=image", r"image of .* is image uint8 \(16, 16, 3\), not numbers"),
        ("instruction=reward", r"steps/reward of .* is float32 scalar, not text or codes"),
        ("action=language_instruction", r"steps/language_instruction: text\) is not numbers"),
    ],
)
def test_names_that_fit_nothing_are_errors(tmp_path: Path, entry: str, message: str) -> None:
    folder = robot(tmp_path / "r", {"steps/observation/depth": (image(16, 16, 1, dtype="float32"), GREY)})
    with pytest.raises(DataError, match=message):
        imported(folder, tmp_path, entry)


def test_the_command_takes_names_as_its_messages_write_them(tmp_path: Path) -> None:
    folder = robot(tmp_path / "r", {"steps/task": (TEXT, [b"stack"] * STEPS)}, without=("steps/language_instruction",))
    assert (
        main(["data", "import", str(folder), str(tmp_path / "out"), "--data.features", "instruction=steps/task"]) == 0
    )
    assert set(EpisodeDataset(tmp_path / "out").instructions) == {"stack"}
