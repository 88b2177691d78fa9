"""Features that the data call otherwise, and action specs that lie outside them."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from foreign import NAMES, Foreign, shown, told
from recordings import SPEC
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources.opening import open_source
from rslwm.types import DataError

MAPPING = ("action=actions", "observation.images.front=image", "observation.state=state", "next.success=done_ok")


@pytest.fixture
def renamed(tmp_path: Path) -> Path:
    """actions, state, image, done_ok."""
    made = Foreign(images=True, cameras=("image",))
    made.rows["done_ok"] = [t == 8 for t in made.rows["frame_index"]]
    for ours, theirs in (("action", "actions"), ("observation.state", "state")):
        made.rows[theirs] = made.rows.pop(ours)
    root = made.write(tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    features = info["features"]
    features |= {"actions": features.pop("action"), "state": features.pop("observation.state")}
    features |= {"done_ok": {"dtype": "bool", "shape": [1], "names": None}}
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def test_missing_actions_are_asked_for_with_every_feature_and_the_flag(renamed: Path) -> None:
    with pytest.raises(DataError) as asked:
        EpisodeDataset(renamed)
    for part in ("actions float32 (7,)", "state float32 (2,)", "image image (32, 32, 3)", "done_ok bool (1,)"):
        assert part in str(asked.value)
    flag = "--data.features action=actions,observation.images.image=image,observation.state=state"
    assert str(asked.value).endswith(flag)


def test_mapped_features_are_read_under_our_names(renamed: Path) -> None:
    dataset = EpisodeDataset(renamed, MAPPING)
    assert dataset.cameras == ["front"]
    assert dataset.actions(1).shape == (11, 7)
    assert dataset.success == [False, True, True]
    assert shown(dataset.frames(2, "front")) == told(dataset, 2)
    assert dataset.camera("image") == "front"
    assert dataset.left_out == []


def test_a_mapping_is_part_of_the_fingerprint(renamed: Path) -> None:
    assert EpisodeDataset(renamed, MAPPING).fingerprint != EpisodeDataset(renamed, MAPPING[:1]).fingerprint


def test_a_feature_whose_name_another_one_gets_is_left_out_and_said(tmp_path: Path) -> None:
    made = Foreign(features={"action.raw": {"dtype": "float32", "shape": [7], "names": NAMES}})
    made.rows["action.raw"] = [[2 * a for a in action] for action in made.rows["action"]]
    root = made.write(tmp_path / "set")
    plain, mapped = EpisodeDataset(root), EpisodeDataset(root, ["action=action.raw"])
    np.testing.assert_allclose(mapped.actions(0), 2 * plain.actions(0))
    assert plain.left_out == ["features left out: action.raw float32 (7,)"]
    assert mapped.left_out == ["features left out: action float32 (7,)"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("action", "'action' is not OURS=THEIRS"),
        ("index=number", "'index=number' is not OURS=THEIRS"),
        ("action=act", r"has no feature 'act'; its features are .*actions float32 \(7,\)"),
    ],
)
def test_a_mapping_that_leads_nowhere_lists_what_there_is(renamed: Path, entry: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        EpisodeDataset(renamed, [entry])


def test_a_folder_is_opened_again_under_the_same_names(renamed: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(SPEC.to_dict()))
    config = DataConfig(f"lerobot:{renamed}", image_size=16, features=MAPPING, action_spec=str(spec))
    dataset = open_source(config).open(tmp_path)
    again = open_source(config).reopen(dataset.root)
    assert again.spec == SPEC
    assert again.cameras == ["front"]
    assert len(again.actions(1)) == 11


def test_an_imported_set_is_not_mapped_again(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    dataset = open_source(DataConfig("rlds:elsewhere", features=("action=steps/action",), action_spec="gone")).reopen(
        root
    )
    assert len(dataset.actions(0)) == 8


@pytest.mark.parametrize("name", ["rslwm.yaml", "rslwm.json"])
def test_a_folder_may_hold_its_action_spec_in_a_file(tmp_path: Path, name: str) -> None:
    root = Foreign(features={"action": {"dtype": "float32", "shape": [7], "names": None}}).write(tmp_path / "set")
    with pytest.raises(DataError):
        _ = EpisodeDataset(root).spec
    (root / name).write_text(json.dumps({"action_spec": SPEC.to_dict()}))
    assert EpisodeDataset(root).spec == SPEC


def test_a_spec_that_is_given_stands_above_the_data_s_own_and_that_is_said(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    for folder, factor in ((root / "rslwm.json", 1.0), (tmp_path / "given.json", 2.0)):
        values = SPEC.to_dict() | {"high": [factor * value for value in SPEC.high]}
        folder.write_text(json.dumps({"action_spec": values}))
    dataset = EpisodeDataset(root, action_spec=str(tmp_path / "given.json"))
    assert dataset.spec.high[0] == 2 * SPEC.high[0]
    assert "the data's own action spec is left out" in dataset.left_out[0]
    assert EpisodeDataset(root).left_out == []


def test_a_spec_with_the_data_s_names_in_another_order_is_refused(tmp_path: Path) -> None:
    root = Foreign().write(tmp_path / "set")
    names = dict(zip(SPEC.names, NAMES, strict=True))
    values = SPEC.to_dict() | {"names": [names[name] for name in SPEC.names]}
    (root / "rslwm.json").write_text(json.dumps(values))
    assert EpisodeDataset(root).spec.names == tuple(NAMES)
    (root / "rslwm.json").write_text(json.dumps(values | {"names": [*reversed(NAMES)]}))
    with pytest.raises(DataError, match=r"same in another order: delta_x, .* the order of the data"):
        _ = EpisodeDataset(root).spec
