"""LeRobot folders that are odd and healthy, and odd and faulty: each a kind that real folders show."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from foreign import Foreign, shown, told
from rslwm.cli.data import describe
from rslwm.data.check import check, require_sound
from rslwm.data.dataset import EpisodeDataset
from rslwm.types import DataError

FRONT = "observation.images.front"
DATA, EPISODES, TASKS = (
    "data/chunk-000/file-000.parquet",
    "meta/episodes/chunk-000/file-000.parquet",
    "meta/tasks.parquet",
)


def changed(path: Path, column: str, values: Any) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, values), path)


def paired(dataset: EpisodeDataset) -> bool:
    return all(shown(dataset.frames(i, c)) == told(dataset, i) for i in range(len(dataset)) for c in dataset.cameras)


def test_a_slower_video_gives_frames_of_the_same_episode_only(tmp_path: Path) -> None:
    dataset = EpisodeDataset(Foreign(fps=30, video_fps=15, lengths=(8, 12, 10)).write(tmp_path / "set"))
    assert check(dataset).findings == ()
    for i in range(3):
        for (episode, step), (own, at) in zip(shown(dataset.frames(i, "front")), told(dataset, i), strict=True):
            assert episode == own
            assert abs(step - at) <= 1


def test_files_that_other_systems_leave_are_not_taken_for_tables(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    table = pq.read_table(root / EPISODES)
    pq.write_table(table.drop(["data/chunk_index", "data/file_index"]), root / EPISODES)
    for name in (DATA, EPISODES):
        (root / name).with_name("._file-000.parquet").write_bytes(b"\0\5\26\7 Mac OS X")
    dataset = EpisodeDataset(root)
    assert check(dataset).findings == ()
    assert dataset.left_out == []


def test_a_data_file_that_no_episode_refers_to_is_listed(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    pq.write_table(pq.read_table(root / DATA), root / "data/chunk-000/file-007.parquet")
    (note,) = EpisodeDataset(root).left_out
    assert note == "data files that no episode refers to left out: 1, the first data/chunk-000/file-007.parquet"


def test_a_set_in_which_nothing_was_recorded_is_called_that(tmp_path: Path) -> None:
    root = Foreign(lengths=(1,)).write(tmp_path / "set")
    info = (root / "meta/info.json").read_text()
    (root / "meta/info.json").write_text(info.replace('"total_episodes": 1, "total_frames": 1', '"total_episodes": 0'))
    (root / EPISODES).unlink()
    dataset = EpisodeDataset(root)
    assert next(f.what for f in check(dataset).findings if f.severity == "error") == "no episode has any steps"
    with pytest.raises(DataError, match="no action is recorded"):
        _ = dataset.spec


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ([3, 32, 40], ["height", "width", "channel"]),
        ([3, 32, 40], None),
        ([32, 40, 3], ["channels", "height", "width"]),
        ([40, 32, 3], ["width", "height", "channels"]),
        ([32, 40], ["height", "width", "channels"]),
        ([32, 40, 1], [1, 2, 3]),
    ],
)
def test_channels_are_where_the_shape_says(tmp_path: Path, shape: list[int], names: Any) -> None:
    feature = {"dtype": "video", "shape": shape, "names": names}
    assert EpisodeDataset(Foreign(features={FRONT: feature}).write(tmp_path / "set")).image_size("front") == (32, 40)


@pytest.mark.parametrize("shape", [[], [1]])
def test_pictures_without_a_height_and_width_are_refused(tmp_path: Path, shape: list[int]) -> None:
    root = Foreign(features={FRONT: {"dtype": "video", "shape": shape}}).write(tmp_path / "set")
    with pytest.raises(DataError, match=r"front video \(.*\) has no height and width"):
        EpisodeDataset(root)


def test_details_of_a_video_in_another_form_are_passed_over(tmp_path: Path) -> None:
    feature = {"dtype": "video", "shape": [32, 32, 3], "info": ["h264"], "video_info": "none"}
    assert check(EpisodeDataset(Foreign(features={FRONT: feature}).write(tmp_path / "set"))).findings == ()


def test_a_camera_of_one_channel_is_no_default_beside_one_of_colours(tmp_path: Path) -> None:
    made = Foreign(cameras=("observation.images.range", FRONT))
    made.features = {"observation.images.range": {"dtype": "video", "shape": [32, 32, 1], "names": None}}
    dataset = EpisodeDataset(made.write(tmp_path / "set"))
    assert dataset.cameras == ["front", "range"]


@pytest.mark.parametrize("offset", [3.0, 1.7e9])
def test_time_stamps_that_begin_late_are_said_to(tmp_path: Path, offset: float) -> None:
    made = Foreign()
    root = made.write(tmp_path / "set")
    changed(root / DATA, "timestamp", pa.array([t + offset for t in made.rows["timestamp"]], pa.float64()))
    with pytest.raises(DataError, match=rf"begin at {offset:.3f} s: time stamps count from the beginning"):
        require_sound(EpisodeDataset(root))


def encoded(image: np.ndarray) -> bytes:
    Image.fromarray(image).save(buffer := io.BytesIO(), "png")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("value", "message", "damaged"),
    [
        ({"bytes": encoded(np.full((32, 32), 700, np.uint16)), "path": None}, "a depth map, not colours", False),
        ([[1.0, 2.0], [3.0, 4.0]], r"is list .*not an encoded picture.*add_frame", False),
        ({"bytes": b"\x89PNG\r\n\x1a\nhalf", "path": None}, r"is no picture: it begins with b'\\x89PNG", True),
    ],
)
def test_only_damage_is_called_damage(tmp_path: Path, value: Any, message: str, damaged: bool) -> None:
    root = Foreign(images=True).write(tmp_path / "set")
    changed(root / DATA, FRONT, pa.array([value] * 28))
    with pytest.raises(DataError, match=message) as caught:
        EpisodeDataset(root).frames(0, "front")
    assert ("Copy or record" in str(caught.value)) == damaged


def test_the_text_of_a_task_is_its_index_whatever_else_the_table_holds(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    table = {"category": ["X", "Y"], "task_index": [1, 0], "__index_level_0__": ["open it", "push it"]}
    pq.write_table(pa.table(table), root / TASKS)
    assert EpisodeDataset(root).instructions == ["push it", "open it", "push it"]


def test_a_task_index_of_two_texts_is_refused(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    pq.write_table(pa.table({"task_index": [0, 0, 1], "task": ["push it", "pull it", "open it"]}), root / TASKS)
    with pytest.raises(DataError, match="task_index 0 is both 'push it' and 'pull it'"):
        require_sound(EpisodeDataset(root))


def test_videos_that_were_never_encoded_are_called_that(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    table = pq.read_table(root / EPISODES)
    pq.write_table(table.drop([name for name in table.column_names if name.startswith("videos/")]), root / EPISODES)
    with pytest.raises(DataError, match=r"there are none of any feature: they weren't encoded"):
        EpisodeDataset(root)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (("action=action", "action=observation.state"), "names action twice: action and observation.state"),
        ((f"{FRONT}=action",), r"action float32 \(7,\) of .* is not pictures"),
        ((f"observation.state={FRONT}",), r"is not a vector of numbers"),
        ((f"action={FRONT}",), r"is not a vector of numbers"),
        (("observation.images.=observation.images.front",), "is not OURS=THEIRS"),
        (("observation.state.=observation.state",), "is not OURS=THEIRS"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(tmp_path: Path, mapping: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        EpisodeDataset(Foreign().write(tmp_path / "set"), mapping)


@pytest.mark.parametrize(
    "change", [lambda t: t.encode("latin-1"), lambda t: t.encode("utf-16"), lambda t: t[:60].encode()]
)
def test_metadata_in_another_encoding_are_named_with_what_to_do(tmp_path: Path, change: Callable[[str], bytes]) -> None:
    root = Foreign().write(tmp_path / "set")
    text = (root / "meta/info.json").read_text().replace('{"code', '{"robot": "Käfer", "code')
    (root / "meta/info.json").write_bytes(change(text))
    with pytest.raises(DataError, match=r"info\.json is not JSON.*write it again in UTF-8"):
        EpisodeDataset(root)


def test_an_empty_set_is_described(tmp_path: Path) -> None:
    root = Foreign(lengths=(1,)).write(tmp_path / "set")
    for name in (DATA, EPISODES):
        pq.write_table(pq.read_table(root / name).slice(0, 0), root / name)
    info = (root / "meta/info.json").read_text()
    (root / "meta/info.json").write_text(info.replace('"total_episodes": 1', '"total_episodes": 0'))
    assert describe(EpisodeDataset(root)).row_count


@pytest.mark.parametrize("key", ["action", "observation.state"])
def test_rows_of_another_width_than_the_declared_one_are_named(tmp_path: Path, key: str) -> None:
    root = Foreign().write(tmp_path / "set")
    changed(root / DATA, key, pa.array([[1.0, 2.0, 3.0]] * 28))
    dataset = EpisodeDataset(root)
    with pytest.raises(DataError, match=rf"'{key}' has shape \((7|2),\), its rows hold 3 values"):
        require_sound(dataset)
    assert any("its rows hold 3 values" in f.what for f in check(dataset).findings)


@pytest.mark.parametrize("feature", [{"dtype": "string", "shape": [1]}, {"dtype": "float32", "shape": [-1]}])
def test_an_action_that_is_no_vector_of_numbers_is_refused(tmp_path: Path, feature: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"'action' has shape .*; expected one vector of numbers"):
        EpisodeDataset(Foreign(features={"action": feature | {"names": None}}).write(tmp_path / "set"))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("timestamp", pa.array([[]] * 28, pa.list_(pa.float32())), "'timestamp' are empty"),
        ("episode_index", pa.array([float("nan")] * 28), "'episode_index' hold NaN or fractions"),
        ("frame_index", pa.array([0.5] * 28), "'frame_index' hold NaN or fractions"),
    ],
)
def test_index_columns_of_another_kind_are_named(tmp_path: Path, column: str, values: Any, message: str) -> None:
    root = Foreign().write(tmp_path / "set")
    changed(root / DATA, column, values)
    with pytest.raises(DataError, match=f"the rows of {message}"):
        require_sound(EpisodeDataset(root))


def test_an_episode_s_length_is_a_number_that_there_can_be(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    changed(root / EPISODES, "length", pa.array([2**63 + 1] * 3, pa.uint64()))
    with pytest.raises(DataError, match=r"length is \d+; expected a whole number"):
        EpisodeDataset(root)


def test_tasks_of_another_kind_are_none(tmp_path: Path) -> None:
    root = Foreign(left_out=("task_index",)).write(tmp_path / "set")
    changed(root / EPISODES, "tasks", pa.array([1, 2, 3]))
    assert EpisodeDataset(root).instructions == ["", "", ""]


def test_an_action_of_a_size_that_there_cannot_be_is_refused(tmp_path: Path) -> None:
    action = {"dtype": "float32", "shape": [10**30], "names": None}
    with pytest.raises(DataError, match="expected one vector of numbers"):
        EpisodeDataset(Foreign(features={"action": action}).write(tmp_path / "set"))
