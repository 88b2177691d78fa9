import json
import logging
from pathlib import Path

import numpy as np
import pytest

from recordings import rendered
from rslwm.data.config import DataConfig
from rslwm.data.sources.opening import open_source
from rslwm.data.sources.rlds import BRIDGE_SPEC
from rslwm.types import DataError, end_effector_spec
from tfds_folder import STEPS, as_recorded, encode, example, framed, pictures, rlds, tfds


def test_episodes_of_all_shards_come_back(tmp_path: Path) -> None:
    folder = rlds(tfds(tmp_path / "b", [[example(0), example(1)], [example(2)]]))
    episodes = list(folder.episodes())
    assert [e.id for e in episodes] == ["/robot/out.npy:0", "/robot/out.npy:1", "/robot/out.npy:2"]
    for number, episode in enumerate(episodes):
        np.testing.assert_allclose(episode.actions, example(number)["steps/action"], atol=1e-7)
        np.testing.assert_array_equal(episode.states["state"], example(number)["steps/observation/state"])
        np.testing.assert_array_equal(episode.frames["image_0"], rendered(STEPS, 16, number))
        assert episode.instruction == "put the pot on the stove"


def test_a_black_camera_is_dropped_and_reported(tmp_path: Path) -> None:
    folder = rlds(tfds(tmp_path / "b", [[example(0)]]))
    assert [*next(folder.episodes()).frames] == ["image_0"]
    assert folder.report.black == ["image_1"]
    assert "cameras dropped, black in every episode: image_1" in folder.notes


def test_a_camera_that_shows_something_once_is_kept(tmp_path: Path) -> None:
    lit = example(1) | {"steps/observation/image_1": pictures(rendered(STEPS, 16, 9))}
    folder = rlds(tfds(tmp_path / "b", [[example(0), lit]]))
    assert [*next(folder.episodes()).frames] == ["image_0", "image_1"]


def test_rewards_of_zero_everywhere_are_no_labels(tmp_path: Path) -> None:
    unlabelled = as_recorded(tfds(tmp_path / "a", [[example(0), example(1)]]))
    labelled = as_recorded(tfds(tmp_path / "b", [[example(0), example(1, reward=1)]]))
    assert [e.success for e in unlabelled] == [None, None]
    assert [e.success for e in labelled] == [False, True]


def test_repeated_episodes_are_read_once(tmp_path: Path) -> None:
    folder = rlds(tfds(tmp_path / "b", [[example(0), example(1)], [example(1), example(0), example(2)]]))
    assert folder.report.duplicates == 2
    assert len({e.id for e in folder.episodes()}) == len(list(folder.episodes())) == 3


def test_different_episodes_of_one_name_are_both_read(tmp_path: Path) -> None:
    twin = example(1) | {"episode_metadata/episode_id": [0]}
    folder = rlds(tfds(tmp_path / "b", [[example(0), twin]]))
    ids = [e.id for e in folder.episodes()]
    assert len(set(ids)) == 2
    assert folder.report.duplicates == 0


def test_a_missing_shard_is_reported_and_the_rest_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = rlds(tfds(tmp_path / "b", [[example(0)]], val=3))
    with caplog.at_level(logging.WARNING):
        assert len(folder.write(tmp_path / "imported")) == 1
    assert "bridge_dataset-val.tfrecord-00000-of-00001" in caplog.text


def test_no_shard_at_all_is_an_error(tmp_path: Path) -> None:
    root = tfds(tmp_path / "b", [[example(0)]])
    next(root.glob("*.tfrecord-*")).unlink()
    with pytest.raises(DataError, match=r"none of its shards \(bridge_dataset-train"):
        rlds(root)


def test_a_shard_with_too_few_records_is_an_error(tmp_path: Path) -> None:
    root = tfds(tmp_path / "b", [[example(0), example(1)]])
    shard = next(root.glob("*.tfrecord-*"))
    shard.write_bytes(framed(encode(example(0))))
    with pytest.raises(DataError, match="holds 1 records, but 2 according"):
        as_recorded(root)


def test_a_damaged_image_is_an_error(tmp_path: Path) -> None:
    broken = example(0) | {"steps/observation/image_0": [b"\xff\xd8 no picture"] * STEPS}
    with pytest.raises(DataError, match=r"image of .* can't be decoded"):
        as_recorded(tfds(tmp_path / "b", [[broken]]))


def test_features_against_the_metadata_are_an_error(tmp_path: Path) -> None:
    cut = example(0) | {"steps/action": np.zeros(40, np.float32)}
    with pytest.raises(DataError, match=r"'/robot/out.npy:0' has 40 values of 'steps/action'; features.json says 7"):
        as_recorded(tfds(tmp_path / "a", [[cut]]))
    blind = {key: value for key, value in example(1).items() if key != "steps/observation/image_0"}
    with pytest.raises(DataError, match=r"'/robot/out.npy:1' has no pictures of 'steps/observation/image_0'"):
        as_recorded(tfds(tmp_path / "b", [[example(0), blind]]))


def test_only_bridge_is_known_by_name(tmp_path: Path) -> None:
    assert rlds(tfds(tmp_path / "bridge", [[example(0)]])).spec == BRIDGE_SPEC
    other = tfds(tmp_path / "other", [[example(0)]], name="kitchen")
    with pytest.raises(DataError, match=r"save them as .*rslwm\.yaml"):
        _ = rlds(other).spec
    spec = end_effector_spec(0.1, 0.5, hz=10)
    (other / "rslwm.json").write_text(json.dumps({"action_spec": spec.to_dict()}))
    assert rlds(other).spec == spec


def test_the_bridge_sample_is_imported_whole(bridge: Path, tmp_path: Path) -> None:
    dataset = open_source(DataConfig(f"rlds:{bridge}")).open(tmp_path)
    assert len(dataset) == 25
    assert dataset.cameras == ["image_0", "image_1", "image_2"]
    assert dataset.spec == BRIDGE_SPEC
    assert set(dataset.success) == {None}
    assert len(set(dataset.instructions)) == 4
    assert set(dataset.lengths) == {10}
    for i, original in enumerate(as_recorded(bridge)):
        np.testing.assert_array_equal(dataset.actions(i), original.actions)
        error = (dataset.frames(i, "image_0").astype(float) - original.frames["image_0"]) ** 2
        assert 10 * np.log10(255**2 / error.mean()) > 38


def test_bridge_actions_follow_the_state(bridge: Path) -> None:
    """What action[t] does shows in state[t+1] - state[t]: the convention that everything else relies on."""
    episodes = as_recorded(bridge)
    actions = np.concatenate([e.actions[:-1, :6] for e in episodes])
    motion = np.concatenate([np.diff(e.states["state"][:, :6], axis=0) for e in episodes])
    for d in range(6):
        assert np.corrcoef(actions[:, d], motion[:, d])[0, 1] > 0.7
