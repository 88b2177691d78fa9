"""Rows, frames and instructions of LeRobot folders are those that the format says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foreign import Foreign, picture, png, shown, told, write
from rslwm.data.check import check, require_sound
from rslwm.data.dataset import EpisodeDataset
from rslwm.types import DataError

FRONT = "observation.images.front"


def paired(dataset: EpisodeDataset) -> bool:
    """Whether every row of every camera has its picture."""
    pairs = [(shown(dataset.frames(i, c)), told(dataset, i)) for c in dataset.cameras for i in range(len(dataset))]
    return len(pairs) > 0 and all(frames == rows for frames, rows in pairs)


def errors(dataset: EpisodeDataset) -> list[str]:
    return [f"{f.where}: {f.what}" for f in check(dataset).findings if f.severity == "error"]


@pytest.mark.parametrize(
    "made",
    [
        Foreign(),
        Foreign(files=3),
        Foreign(files=2, data_path="data/part-{chunk_index:03d}/rows-{file_index:03d}.parquet"),
        Foreign(video_fps=30),
        Foreign(video_fps=20),
        Foreign(images=True, files=2),
        Foreign(v21=True),
        Foreign(v21=True, images=True),
        Foreign(v21=True, video_fps=30),
        Foreign(cameras=(FRONT, "observation.images.wrist")),
    ],
    ids=["v3", "files", "data_path", "30fps", "20fps", "images", "v21", "v21-images", "v21-30fps", "two-cameras"],
)
def test_a_healthy_folder_is_paired_and_has_no_findings_and_stays_as_it_is(made: Foreign, tmp_path: Path) -> None:
    dataset = EpisodeDataset(made.write(tmp_path / "set"))
    before = sorted(path for path in dataset.root.rglob("*"))
    assert paired(dataset)
    assert check(dataset).findings == ()
    assert dataset.instructions == ["push the cube", "open the drawer", "push the cube"]
    assert dataset.left_out == []
    assert sorted(path for path in dataset.root.rglob("*")) == before


def test_rows_are_found_by_their_indices_not_by_their_place(tmp_path: Path) -> None:
    made = Foreign()
    order = np.random.default_rng(1).permutation(sum(made.lengths)).tolist()
    made.rows = {name: [values[k] for k in order] for name, values in made.rows.items()}
    dataset = EpisodeDataset(made.write(tmp_path / "set"))
    assert paired(dataset)
    assert told(dataset, 1) == [(1, t) for t in range(11)]
    assert errors(dataset) == []


def test_pictures_in_a_shuffled_table_follow_their_rows(tmp_path: Path) -> None:
    made = Foreign(images=True, files=2)
    order = np.random.default_rng(1).permutation(sum(made.lengths)).tolist()
    made.rows = {name: [values[k] for k in order] for name, values in made.rows.items()}
    assert paired(EpisodeDataset(made.write(tmp_path / "set")))


def test_a_folder_without_index_columns_is_cut_where_the_metadata_say(tmp_path: Path) -> None:
    made = Foreign(left_out=("episode_index", "frame_index", "index", "task_index"))
    assert paired(EpisodeDataset(made.write(tmp_path / "set")))


def test_files_that_no_episode_names_are_not_read(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    pq.write_table(table, root / "data/chunk-000/file-007.parquet")
    assert errors(EpisodeDataset(root)) == []


def test_rows_of_another_episode_by_the_metadata_are_an_error_that_names_them(tmp_path: Path) -> None:
    made = Foreign()
    made.episodes[0] |= {"length": 6, "dataset_to_index": 6}
    made.episodes[1] |= {"length": 13, "dataset_from_index": 6}
    dataset = EpisodeDataset(made.write(tmp_path / "set"))
    assert any("give it rows 0 to 5, but rows 6 to 7 have its episode_index 0, too" in e for e in errors(dataset))
    with pytest.raises(DataError, match="rows 6 to 7"):
        require_sound(dataset)
    with pytest.raises(DataError, match="8 rows have episode_index 0"):
        dataset.frames(0, "front")


def test_dropped_rows_keep_their_frames_and_the_gap_is_an_error_with_its_size(tmp_path: Path) -> None:
    made = Foreign()
    made.keep([k for k in range(sum(made.lengths)) if k not in (11, 12, 13)])
    dataset = EpisodeDataset(made.write(tmp_path / "set"))
    assert paired(dataset)
    (found,) = errors(dataset)
    assert "a gap: step 3 comes 0.400 s after step 2 instead of 0.100 s (frame_index 2 to 6, 10 Hz)" in found
    with pytest.raises(DataError, match="a gap"):
        require_sound(dataset)


def test_dropped_rows_that_were_numbered_anew_are_an_error(tmp_path: Path) -> None:
    made = Foreign()
    made.keep([k for k in range(sum(made.lengths)) if k not in (11, 12, 13)])
    made.rows["frame_index"][8:16] = [*range(8)]
    made.rows["timestamp"][8:16] = [t / 10 for t in range(8)]
    (found,) = errors(EpisodeDataset(made.write(tmp_path / "set")))
    assert "0.800 to 1.900 s of video at 10 Hz for 8 steps, which end at 0.800 s" in found


@pytest.mark.parametrize("rate", [9.5, 10.7, 5.0, 20.0])
def test_time_stamps_of_another_rate_are_an_error_with_their_size(tmp_path: Path, rate: float) -> None:
    made = Foreign(lengths=(20, 24))
    made.rows["timestamp"] = [t / rate for t in made.rows["frame_index"]]
    dataset = EpisodeDataset(made.write(tmp_path / "set"))
    assert any(f"run at {rate:g} Hz, fps in info.json is 10" in e for e in errors(dataset))
    with pytest.raises(DataError, match=r"run at"):
        require_sound(dataset)


def test_a_small_jitter_of_the_time_stamps_is_none(tmp_path: Path) -> None:
    made = Foreign()
    jitter = np.random.default_rng(0).uniform(-0.01, 0.01, sum(made.lengths))
    made.rows["timestamp"] = [abs(t + j) for t, j in zip(made.rows["timestamp"], jitter, strict=True)]
    dataset = EpisodeDataset(made.write(tmp_path / "set"))
    assert paired(dataset)
    assert errors(dataset) == []


def test_an_episode_of_no_steps_is_left_out_and_named(tmp_path: Path) -> None:
    made = Foreign(lengths=(8, 0, 9))
    dataset = EpisodeDataset(made.write(tmp_path / "set"))
    assert paired(dataset)
    assert dataset.ids == ["episode-000000", "episode-000002"]
    assert dataset.left_out == ["empty episodes (no steps) left out: 1"]
    assert errors(dataset) == []


def test_rows_of_an_episode_that_is_listed_as_empty_are_an_error(tmp_path: Path) -> None:
    made = Foreign()
    made.episodes[1] |= {"length": 0, "dataset_to_index": 8}
    made.episodes[2] |= {"length": 20, "dataset_from_index": 8}
    found = errors(EpisodeDataset(made.write(tmp_path / "set")))
    assert any("is empty (length 0, no steps) in the metadata, but rows 8 to 18" in e for e in found)
    assert not any("damaged" in e for e in found)


def test_text_follows_the_task_index_and_a_change_is_reported(tmp_path: Path) -> None:
    made = Foreign()
    made.rows["task_index"] = [1] * 8 + [1] * 5 + [0] * 6 + [0] * 9
    dataset = EpisodeDataset(made.write(tmp_path / "set"))
    assert dataset.instructions == ["open the drawer", "open the drawer", "push the cube"]
    assert dataset.texts[1] == ["open the drawer", "push the cube"]
    assert "1 of 3 episodes have several instructions, the first 'episode-000001'" in dataset.left_out[0]
    assert [(f.severity, f.where) for f in check(dataset).findings] == [("warning", "instructions")]


def test_a_task_that_the_table_lacks_is_an_error(tmp_path: Path) -> None:
    made = Foreign()
    made.rows["task_index"][3] = 7
    assert any("task_index 7" in e for e in errors(EpisodeDataset(made.write(tmp_path / "set"))))


def test_a_depth_map_is_left_out_and_the_first_colour_camera_is_the_default(tmp_path: Path) -> None:
    made = Foreign(cameras=("observation.images.depth", FRONT))
    shape = {"dtype": "video", "shape": [32, 32, 1], "names": ["height", "width", "channels"]}
    for flag in ({"info": {"video.is_depth_map": True}}, {"info": {"is_depth_map": True}}, {"video_info": None}):
        made.features = {"observation.images.depth": shape | flag}
        dataset = EpisodeDataset(made.write(tmp_path / f"set{flag}"))
        assert dataset.camera("") == "front"
        assert dataset.left_out == ["camera 'depth' is a depth map, and left out"]
        assert check(dataset).findings == ()
        with pytest.raises(DataError, match=r"no camera 'depth'; it has: front .*depth map"):
            dataset.frames(0, "depth")


def test_pictures_of_sixteen_bits_are_called_a_depth_map(tmp_path: Path) -> None:
    root = Foreign(images=True).write(tmp_path / "set")
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    deep = pa.array([{"bytes": png(np.full((32, 32), 700, np.uint16)), "path": None}] * len(table))
    pq.write_table(table.set_column(table.schema.get_field_index(FRONT), FRONT, deep), path)
    with pytest.raises(DataError, match="more than 8 bits: a depth map"):
        EpisodeDataset(root).frames(0, "front")


def test_pictures_beside_the_table_are_read_by_their_path(tmp_path: Path) -> None:
    made = Foreign(images=True)
    root = made.write(tmp_path / "set")
    path = root / "data/chunk-000/file-000.parquet"
    table, names = pq.read_table(path), []
    for k, (e, t) in enumerate(zip(made.rows["episode_index"], made.rows["frame_index"], strict=True)):
        names.append(f"images/{k}.png")
        write(root / names[-1], png(picture(e, t)))
    picture_type = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    values = pa.array([{"bytes": None, "path": name} for name in names], picture_type)
    pq.write_table(table.set_column(table.schema.get_field_index(FRONT), FRONT, values), path)
    assert paired(EpisodeDataset(root))
    (root / "images/9.png").unlink()
    with pytest.raises(DataError, match=r"episode-000001', step 1 lies in .*9\.png, which does not exist"):
        EpisodeDataset(root).frames(1, "front")


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b"],
        {"axes": ["a", "b"]},
        {"b": 1, "a": 0},
        {"left": ["a"], "right": "b"},
        {"axes": {"b": 1, "a": 0}},
        [["a", "b"]],
    ],
)
def test_names_are_read_in_every_form(tmp_path: Path, names: Any) -> None:
    feature = {"dtype": "float32", "shape": [2], "names": names}
    dataset = EpisodeDataset(Foreign(features={"observation.state": feature}).write(tmp_path / "set"))
    assert dataset.state_names == {"state": ["a", "b"]}


def test_what_is_not_used_is_listed(tmp_path: Path) -> None:
    more = {
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "note": {"dtype": "string", "shape": [1], "names": None},
        "observation.cloud": {"dtype": "float32", "shape": [4, 3], "names": None},
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["one"]},
    }
    dataset = EpisodeDataset(Foreign(features=more).write(tmp_path / "set"))
    assert dataset.left_out == [
        "features left out: next.reward float32 (1,), note string (1,), observation.cloud float32 (4, 3)",
        "names of 'observation.state' left out: 1 for shape (2,): ['one']",
    ]


def test_a_size_with_the_channels_first_is_understood(tmp_path: Path) -> None:
    feature = {"dtype": "image", "shape": [3, 32, 32], "names": ["channels", "height", "width"]}
    dataset = EpisodeDataset(Foreign(images=True, features={FRONT: feature}).write(tmp_path / "set"))
    assert dataset.image_size("front") == (32, 32)
    assert check(dataset).findings == ()


@pytest.mark.parametrize("name", ["front", FRONT, ""])
def test_a_camera_answers_to_its_whole_name_too(tmp_path: Path, name: str) -> None:
    assert EpisodeDataset(Foreign().write(tmp_path / "set")).camera(name) == "front"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("meta/info.json", b"{", "is not JSON"),
        ("meta/info.json", b"\xff\xfe{}", "is not JSON"),
        ("meta/info.json", b"[1]", "expected a JSON object"),
        ("meta/episodes/chunk-000/file-000.parquet", b"PAR1 half", "has a beginning and no end"),
        ("meta/episodes/chunk-000/file-000.parquet", b"text", "can't be read as parquet"),
        ("data/chunk-000/file-000.parquet", b"PAR1 half", "finalize"),
        ("meta/tasks.parquet", b"text", "can't be read as parquet"),
    ],
)
def test_metadata_that_are_broken_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    root = Foreign().write(tmp_path / "set")
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        require_sound(EpisodeDataset(root))
    assert name in str(caught.value)


@pytest.mark.parametrize("field", [{"fps": 0}, {"fps": "ten"}, {"fps": None}, {"features": {"action": {}}}])
def test_fields_of_another_kind_are_named(tmp_path: Path, field: dict[str, Any]) -> None:
    root = Foreign().write(tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text()) | field
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"info\.json: (fps|feature 'action')"):
        EpisodeDataset(root)


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    broken = pa.array([b"push", b"\xff\xfe"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"task_index": [0, 1], "task": broken}), root / "meta/tasks.parquet")
    with pytest.raises(DataError, match=r"tasks\.parquet can't be read as parquet .*UTF8"):
        _ = EpisodeDataset(root).instructions


def test_lines_of_v21_that_are_not_json_are_named(tmp_path: Path) -> None:
    root = Foreign(v21=True).write(tmp_path / "set")
    with (root / "meta/episodes.jsonl").open("ab") as file:
        file.write(b"{half\n")
    with pytest.raises(DataError, match=r"episodes\.jsonl, line 4 is not JSON"):
        EpisodeDataset(root)


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    root = Foreign(files=3).write(tmp_path / "set")
    (root / "data/chunk-000/file-001.parquet").unlink()
    with pytest.raises(DataError, match=r"file-001\.parquet does not exist"):
        EpisodeDataset(root).actions(0)
