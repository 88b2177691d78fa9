import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from recordings import SPEC, episode
from rslwm.data.check import Finding, Report, check, require_sound
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.lerobot import write_lerobot
from rslwm.data.sources.opening import open_source
from rslwm.types import DataError, Episode

Edit = Callable[[EpisodeDataset, Callable[[dict[str, Any]], object]], EpisodeDataset]


def sound(i: int, **changes: Any) -> Episode:
    return replace(replace(episode(i), success=True), **changes)


def checked(tmp_path: Path, *episodes: Episode) -> Report:
    return check(write_lerobot(episodes, tmp_path / "planted", SPEC))


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, report.findings
    return report.findings[0]


def edit_table(path: Path, column: str, values: list[Any]) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, pa.array(values)), path)


def test_a_sound_data_set_has_no_findings(tmp_path: Path) -> None:
    report = checked(tmp_path, sound(0), sound(1))
    assert report.findings == ()
    assert report.ok


def test_a_truncated_video_is_an_error(dataset: EpisodeDataset) -> None:
    os.truncate(next(dataset.root.rglob("*.mp4")), 1500)
    report = check(dataset)
    assert not report.ok
    video = [f for f in report.findings if f.where.startswith("episode") and "file-000.mp4" in f.what]
    assert len(video) == len(dataset)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    dataset = write_lerobot([sound(0), sound(1)], tmp_path / "set", SPEC)
    path = next(dataset.root.rglob("*.mp4"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = [f for f in check(EpisodeDataset(dataset.root)).findings if f.where == str(path)]
    assert found[0].severity == "warning"
    assert "bytes" in found[0].what


def test_an_edited_info_file_is_a_warning(tmp_path: Path, edit_info: Edit) -> None:
    dataset = write_lerobot([sound(0)], tmp_path / "set", SPEC)
    report = check(edit_info(dataset, lambda info: info.update(robot_type="widowx")))
    assert only(report).where.endswith("info.json")
    assert report.ok


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_actions_that_are_not_numbers_are_an_error(tmp_path: Path, value: float) -> None:
    actions = episode(1).actions
    actions[3:5, 2] = value
    finding = only(checked(tmp_path, sound(0), sound(1, actions=actions)))
    assert (finding.severity, finding.where) == ("error", "episode 'push-000001'")
    assert finding.what == "action is NaN or infinite at 2 steps, the first 3"


def test_states_that_are_not_numbers_are_an_error(tmp_path: Path) -> None:
    states = {"gripper": np.full((9, 3), np.nan, np.float32)}
    assert only(checked(tmp_path, sound(0), sound(1, states=states))).what.startswith("state gripper is NaN")


def test_actions_of_other_dimensions_are_an_error(tmp_path: Path, edit_info: Edit) -> None:
    dataset = write_lerobot([sound(0)], tmp_path / "set", SPEC)
    fewer = {k: v[:6] if isinstance(v, list) else v for k, v in SPEC.to_dict().items()}
    report = check(edit_info(dataset, lambda info: info["rslwm"].update(action_spec=fewer)))
    assert "the action spec names 6 dimensions, recorded are 7" in [f.what for f in report.findings]
    assert not report.ok


def test_an_unknown_action_convention_is_an_error(tmp_path: Path, edit_info: Edit) -> None:
    dataset = write_lerobot([sound(0)], tmp_path / "set", SPEC)
    report = check(
        edit_info(dataset, lambda info: (info.pop("rslwm"), info["features"]["action"].update(names=[*SPEC.names])))
    )
    assert any("don't say what they are" in f.what for f in report.findings)
    assert not report.ok


def test_a_length_against_the_tables_is_an_error(dataset: EpisodeDataset) -> None:
    edit_table(dataset.root / "meta/episodes/chunk-000/file-000.parquet", "length", [6, 7, 8, 10])
    report = check(EpisodeDataset(dataset.root))
    found = {(f.where, f.what) for f in report.findings if f.severity == "error"}
    assert ("episode 'push-000003'", "rows 21 to 30 for a length of 10") in found


def test_a_table_that_lacks_rows_is_an_error(dataset: EpisodeDataset) -> None:
    path = dataset.root / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 28), path)
    found = [f.what for f in check(EpisodeDataset(dataset.root)).findings]
    assert "28 rows in data, 30 in the metadata's episodes, 30 in total_frames" in found
    assert "the metadata give it rows 21 to 29, but rows 28 to 29 don't have its episode_index 3" in found


def test_an_unreadable_table_is_an_error_not_a_crash(dataset: EpisodeDataset) -> None:
    os.truncate(dataset.root / "data/chunk-000/file-000.parquet", 700)
    assert any("can't be read as parquet" in f.what for f in check(EpisodeDataset(dataset.root)).findings)


def test_a_dimension_that_never_moves_is_a_warning(tmp_path: Path) -> None:
    episodes = [sound(i) for i in range(2)]
    for e in episodes:
        e.actions[:, 4] = 0.125
    finding = only(checked(tmp_path, *episodes))
    assert (finding.severity, finding.where, finding.what) == ("warning", "action 'pitch'", "always 0.125")


def test_actions_outside_their_bounds_are_a_warning(tmp_path: Path) -> None:
    actions = episode(1).actions
    actions[2, 0] = -0.08
    finding = only(checked(tmp_path, sound(0), sound(1, actions=actions)))
    assert finding.severity == "warning"
    assert finding.where == "action 'x'"
    assert finding.what == "1 of 18 steps outside [-0.05, 0.05], the farthest -0.08"


def test_unlabelled_success_is_a_warning(tmp_path: Path) -> None:
    finding = only(checked(tmp_path, sound(0), sound(1, success=None)))
    assert (finding.severity, finding.where) == ("warning", "success labels")
    assert finding.what == "1 of 2 episodes are unlabelled"


def test_a_missing_instruction_is_a_warning(tmp_path: Path) -> None:
    finding = only(checked(tmp_path, sound(0), sound(1, instruction=" ")))
    assert finding.what == "1 of 2 have no instruction, the first 'push-000001'"


def test_a_copied_episode_is_an_error(tmp_path: Path) -> None:
    finding = only(checked(tmp_path, sound(0), sound(1), replace(sound(0), id="copy")))
    assert finding.severity == "error"
    assert finding.what == "same actions and states: 'push-000000', 'copy'"


def test_a_black_camera_is_a_warning(tmp_path: Path) -> None:
    black = np.zeros((9, 32, 32, 3), np.uint8)
    finding = only(checked(tmp_path, sound(0), sound(1, frames={"front": black})))
    assert (finding.severity, finding.where) == ("warning", "camera 'front'")
    assert finding.what == "black in 1 of 2 episodes, the first 'push-000001'"


def test_frames_of_another_size_are_an_error(tmp_path: Path, edit_info: Edit) -> None:
    dataset = write_lerobot([sound(0)], tmp_path / "set", SPEC)
    key = "observation.images.front"
    report = check(edit_info(dataset, lambda info: info["features"][key].update(shape=[64, 64, 3])))
    assert any("frames are (32, 32)" in f.what and "says (64, 64)" in f.what for f in report.findings)


def test_findings_print_errors_first_and_brackets_as_they_are() -> None:
    findings = (Finding("error", "episode 'x'", "broken [red]", "mend"), Finding("warning", "y", "odd", "look"))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(Report("a set", findings))
    text = console.export_text()
    assert text.index("broken [red]") < text.index("odd")
    assert "1 errors, 1 warnings" in text


def test_the_bridge_sample_is_usable(bridge: Path, tmp_path: Path) -> None:
    report = check(open_source(DataConfig(f"rlds:{bridge}")).open(tmp_path))
    assert report.ok
    assert {f.where for f in report.findings} == {"action 'yaw'", "success labels"}


def test_actions_mostly_outside_their_bounds_are_an_error(tmp_path: Path) -> None:
    poses = [replace(sound(i), actions=sound(i).actions + np.float32([0.3, 0, 0, 0, 0, 0, 0])) for i in range(2)]
    report = checked(tmp_path, *poses)
    assert (only(report).severity, only(report).where) == ("error", "action 'x'")
    assert "something else than the action spec says" in only(report).what


def test_what_check_calls_an_error_is_refused(tmp_path: Path) -> None:
    dataset = write_lerobot([sound(0), replace(sound(0), id="copy")], tmp_path / "planted", SPEC)
    with pytest.raises(DataError, match=r"1 errors, see `rslwm data check`:\n- 2 episodes: same actions and states"):
        require_sound(dataset)
    require_sound(write_lerobot([sound(0), sound(1)], tmp_path / "sound", SPEC))


def test_a_folder_whose_sums_nobody_noted_has_no_findings(tmp_path: Path) -> None:
    dataset = write_lerobot([sound(0), sound(1)], tmp_path / "set", SPEC)
    (dataset.root / "meta/fingerprint.json").unlink()
    assert check(EpisodeDataset(dataset.root)).findings == ()
    assert not (dataset.root / "meta/fingerprint.json").exists()
