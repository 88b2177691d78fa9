"""World models to the hub and back by its real client, and what a folder from there may not hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from hub_server import hub
from rslwm.cli.main import FAILED, main
from rslwm.export.hub import write_hub
from rslwm.hub import Place, shown
from rslwm.model.world_model import WorldModel
from rslwm.serialisation import ConfigError
from rslwm.shipping import Card, located
from rslwm.types import DataError
from tiny import tiny_world_model

NAME = "someone/small-vae"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, bytes]]]:
    """What an empty hub holds that the client talks to, with an empty cache here."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra hub")
    with hub() as (address, found):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_pretended")
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_hub("small-vae@tabletop", tmp_path / "hub", NAME)


def test_a_card_says_what_it_is_in_the_hub_s_own_terms(folder: Path) -> None:
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(head)
    assert about["library_name"] == "rslwm"
    assert about["license"] == "apache-2.0"
    assert f'WorldModel.load("hf://{NAME}")' in text
    assert "sim:tabletop" in text
    score = Card.load(folder).scores["overall"].score
    assert f"| overall | {score:.2f} |" in text


def test_a_card_may_be_edited_and_the_weights_may_not(folder: Path) -> None:
    (folder / "README.md").write_text("more")
    assert located(folder) == folder
    (folder / "config.yaml").write_text("less")
    with pytest.raises(DataError, match=r"config\.yaml: SHA-256"):
        located(folder)


def test_what_is_pushed_loads_from_its_address(files: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    words = ["export", "hub", "small-vae@tabletop", "--name", NAME, "--out", str(tmp_path / "hub"), "--push"]
    assert main(words) == 0
    assert "README.md" in files[NAME]
    one, other = WorldModel.load("small-vae@tabletop"), WorldModel.load(f"hf://{NAME}")
    assert all(torch.equal(x, y) for x, y in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert shown(located(Path(f"hf://{NAME}"))) == Path(NAME)


def test_what_was_loaded_once_opens_without_a_network(
    files: dict[str, dict[str, bytes]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files[NAME] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    there = located(f"hf://{NAME}@main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    files.clear()
    assert located(f"hf://{NAME}@main") == there


def test_a_repository_that_isn_t_there_is_named(
    files: dict[str, dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["play", "hf://someone/nothing", "--port", "0"]) == FAILED
    assert "hf://someone/nothing can't be downloaded" in capsys.readouterr().err


def test_code_from_the_hub_is_refused(files: dict[str, dict[str, bytes]], plugin: Path, tmp_path: Path) -> None:
    tiny_world_model(plugin).save(tmp_path / "model")
    found = (path for path in (tmp_path / "model").rglob("*") if path.is_file())
    files["someone/evil"] = {path.relative_to(tmp_path / "model").as_posix(): path.read_bytes() for path in found}
    with pytest.raises(DataError, match="names code as its encoder"):
        located("hf://someone/evil")


def test_an_encoder_that_lies_on_this_machine_isn_t_given_away(plugin: Path, tmp_path: Path) -> None:
    tiny_world_model(plugin).save(tmp_path / "model")
    with pytest.raises(ConfigError, match="make it an installed package"):
        write_hub(tmp_path / "model", tmp_path / "hub", NAME)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("hf://a/b", Place("model", "a/b", None, "")),
        ("hf:/a/b@v1/c/d", Place("model", "a/b", "v1", "c/d")),
        ("hf://datasets/a/b", Place("dataset", "a/b", None, "")),
        ("hf://a", None),
        ("hf://a/b@", None),
    ],
)
def test_addresses_are_read(address: str, place: Place | None) -> None:
    assert Place.of(address) == place
