import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demonstrations import OSC, STEPS, commands, demo, env_args, hdf5, left_out, libero, opened, written
from recordings import rendered
from rslwm.cli.main import main
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources.opening import open_source
from rslwm.types import DataError

h5py = pytest.importorskip("h5py", reason="h5py, of the extra hdf5, is not installed")


def test_libero_pictures_stand_upright(tmp_path: Path) -> None:
    source = hdf5(libero(tmp_path / "a.hdf5", late=False))
    np.testing.assert_array_equal(next(source.episodes()).frames["agentview_rgb"], rendered(STEPS, 16, 0))
    assert any("from bottom to top" in note for note in source.notes)
    stored = hdf5(libero(tmp_path / "b.hdf5", late=False, macros_image_convention="opencv"))
    np.testing.assert_array_equal(next(stored.episodes()).frames["agentview_rgb"], rendered(STEPS, 16, 0)[:, ::-1])


def test_an_observation_after_its_action_is_paired_with_the_next(tmp_path: Path) -> None:
    source = hdf5(libero(tmp_path / "a.hdf5"))
    episode = next(source.episodes())
    np.testing.assert_allclose(episode.actions[:, :3], commands(0)[1:, :3] * 0.05, atol=1e-6)
    np.testing.assert_array_equal(episode.frames["agentview_rgb"], rendered(STEPS, 16, 0)[:-1])
    assert episode.success is True
    assert any("after the action" in note for note in source.notes)
    aligned = next(hdf5(libero(tmp_path / "b.hdf5", late=False)).episodes())
    np.testing.assert_allclose(aligned.actions[:, :3], commands(0)[:, :3] * 0.05, atol=1e-6)


@pytest.mark.parametrize("text", ["open the drawer", ["open", "the", "drawer"]])
def test_the_instruction_is_liberos(tmp_path: Path, text: Any) -> None:
    assert next(hdf5(libero(tmp_path / "a.hdf5", instruction=text)).episodes()).instruction == "open the drawer"


def test_a_demonstrations_own_instruction_counts_more(tmp_path: Path) -> None:
    path = libero(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "close the drawer"})
    assert next(hdf5(path).episodes()).instruction == "close the drawer"


def test_a_folder_is_one_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "libero"
    folder.mkdir()
    libero(folder / "b_demo.hdf5", instruction="b")
    libero(folder / "a_demo.hdf5", instruction="a")
    dataset = opened(folder, tmp_path)
    assert dataset.ids == ["a_demo:demo_0", "b_demo:demo_0"]
    assert dataset.instructions == ["a", "b"]


def test_files_of_two_controllers_are_not_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "libero"
    folder.mkdir()
    libero(folder / "a.hdf5")
    libero(folder / "b.hdf5", env_args=env_args({**OSC, "output_max": 0.1, "output_min": -0.1}))
    with pytest.raises(DataError, match=r"env_args of b\.hdf5 and a\.hdf5 differ"):
        opened(folder, tmp_path)


def test_filter_keys_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0), "demo_1": demo(1)})
    with h5py.File(path, "a") as file:
        file["mask/train"] = np.array([b"demo_0"])
        file["mask/valid"] = np.array([b"demo_1"])
    assert [info["filter_keys"] for info in opened(path, tmp_path).info] == [["train"], ["valid"]]


def test_rewards_that_are_no_labels_label_nothing(tmp_path: Path) -> None:
    shaped = demo(0, rewards=np.linspace(0, 0.9, STEPS))
    dataset = opened(written(tmp_path / "a.hdf5", {"demo_0": shaped}), tmp_path)
    assert dataset.success == [None]
    assert any("unlabelled" in note for note in left_out(dataset))


def test_demonstrations_without_steps_are_said(tmp_path: Path) -> None:
    empty = {key: values[:0] for key, values in demo(1).items()}
    dataset = opened(written(tmp_path / "a.hdf5", {"demo_0": demo(0), "demo_1": empty}), tmp_path)
    assert dataset.ids == ["a:demo_0"]
    assert any("without steps: a.hdf5: demo_1" in note for note in left_out(dataset))


def faulty(path: Path, kind: str) -> Path:
    if kind == "no HDF5":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
        return path
    if kind == "other layout":
        with h5py.File(path, "w") as file:
            file["observations/qpos"] = np.ones(3)
        return path
    if kind == "no actions":
        return written(path, {"demo_0": {"obs/x": np.ones((3, 2))}})
    if kind == "no demonstrations":
        return written(path, {})
    if kind == "another shape":
        return written(path, {"demo_0": demo(0), "demo_1": demo(1, actions=commands(1, 8))})
    if kind == "a feature less":
        return written(
            path, {"demo_0": demo(0), "demo_1": {"actions": commands(1), "obs/robot0_eef_pos": np.ones((STEPS, 3))}}
        )
    if kind == "texts for actions":
        return written(path, {"demo_0": {**demo(0), "actions": np.array([b"left"] * STEPS)}})
    if kind == "no JSON":
        return written(path, {"demo_0": demo(0)}, {"env_args": "{"})
    if kind == "broken text":
        return libero(path, problem_info=np.bytes_(b'{"language_instruction": "tiroir \xe0 gauche"}'))
    path.write_bytes(written(path, {"demo_0": demo(0)}).read_bytes()[:-3000])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no HDF5", "can't be read as HDF5"),
        ("other layout", "has no group 'data' .*; it has observations"),
        ("no actions", r"demo_0 has no 'actions'; it has obs/x: float64 \(2\)\. Name .*--data\.features action=KEY"),
        ("no demonstrations", "holds no demonstration"),
        ("another shape", r"data/demo_1: 'actions' is float64 \(6, 8\); expected 6 steps of float64 \(7\)"),
        ("a feature less", "data/demo_1 has no 'obs/agentview_image'"),
        ("texts for actions", "actions: text.* is not numbers"),
        ("no JSON", "the attribute 'env_args' of /data is not JSON"),
        ("broken text", "problem_info.* is not UTF-8"),
        ("truncated", "can't be read as HDF5: .*truncated.* Copy the file again"),
    ],
)
def test_faults_are_named_with_file_and_field(tmp_path: Path, kind: str, message: str) -> None:
    path = faulty(tmp_path / "a.hdf5", kind)
    with pytest.raises(DataError, match=message) as error:
        opened(path, tmp_path)
    assert "a.hdf5" in str(error.value)


def test_a_path_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no file whose name ends in"):
        opened(tmp_path, tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "nothing.hdf5", tmp_path)


def test_pictures_to_look_at_need_no_convention(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)}, {})
    data = DataConfig(uri=f"hdf5:{path}", image_size=16)
    assert open_source(data).preview(4).shape == (4, 16, 16, 3)


def test_the_command_imports_files(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0), "demo_1": demo(1)})
    mapped = ["--data.features", "observation.images.front=agentview_image"]
    assert not main(["data", "import", str(path), str(tmp_path / "out"), *mapped])
    assert EpisodeDataset(tmp_path / "out").cameras == ["front"]
