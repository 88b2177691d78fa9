"""Names of shipped world models, and the cards that their files are checked by."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rslwm import shipping
from rslwm.registry import UnknownName
from rslwm.shipping import Card, Measure, Score, located, names, sums
from rslwm.types import DataError

CARD = Card(
    name="small-vae",
    collection="points",
    command="rslwm compare points",
    versions={"rslwm": "0"},
    seed=0,
    data={"uri": "sim:tabletop", "episodes": 12},
    trainings=3,
    scores={"fidelity": Score(0.5, 0.4, 0.6)},
    metrics={"psnr": Measure(20.0, 19.0, 21.0, 15.0, None, "dB")},
    costs={"encoder_parameters": 3.0},
    files={},
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """small-vae@points, which is all that is shipped."""
    monkeypatch.setattr(shipping, "SHIPPED", tmp_path / "shipped")
    folder = tmp_path / "shipped/points/small-vae"
    (folder / "space").mkdir(parents=True)
    (folder / "config.yaml").write_text("format: 1")
    (folder / "space/space.yaml").write_text("image_size: 8")
    replace(CARD, files=sums(folder)).save(folder)
    return folder


def test_a_name_leads_to_its_folder_and_a_path_to_itself(folder: Path, tmp_path: Path) -> None:
    assert names() == ["small-vae@points"]
    assert located("small-vae@points") == located(Path("small-vae@points")) == folder
    assert located(folder) == folder
    assert located(str(tmp_path / "runs/a@b")) == tmp_path / "runs/a@b"
    assert located("runs") == Path("runs")


@pytest.mark.parametrize("name", ["small-vae@other", "small-dino@points", "small-vae+4@points"])
def test_other_names_are_refused_with_what_there_is(name: str, folder: Path) -> None:
    with pytest.raises(UnknownName, match=r"nothing called '.*' is shipped\. Shipped: small-vae@points\."):
        located(name)


def test_where_nothing_is_shipped_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "SHIPPED", tmp_path)
    with pytest.raises(UnknownName, match="This package ships no world models; name the folder of one"):
        located("small-vae@points")


def test_a_seed_is_no_collection(folder: Path) -> None:
    assert located("small-vae@1") == Path("small-vae@1")


def test_a_folder_of_such_a_name_is_found_where_nothing_is_shipped_under_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("small-vae@points", "mine@points"):
        Path(name).mkdir()
    assert located("mine@points") == Path("mine@points")
    assert located("small-vae@points") == folder


def test_a_changed_file_is_refused(folder: Path) -> None:
    (folder / "space/space.yaml").write_text("image_size: 9")
    with pytest.raises(DataError, match=r"space\.yaml: SHA-256 \w{12}\.\.\., but card\.json says \w{12}\.\.\.; get"):
        located("small-vae@points")


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    with pytest.raises(DataError, match=r"config\.yaml does not exist, but card\.json lists it"):
        located(folder)


def test_a_file_that_came_since_is_refused_unless_it_is_hidden(folder: Path) -> None:
    (folder / ".DS_Store").touch()
    located(folder)
    (folder / "more.py").touch()
    with pytest.raises(DataError, match=r"more\.py is not in card\.json"):
        located(folder)


def test_a_card_comes_back(folder: Path) -> None:
    assert replace(Card.load(folder), files={}) == CARD


def test_a_damaged_card_is_named(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "seed": "first"}))
    with pytest.raises(DataError, match=r"card\.json is no card of this version: .*seed.* Get the folder again"):
        located(folder)
