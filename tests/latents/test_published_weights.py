"""Weights are found where the user says, below the folder of weights, or in the hub's cache; else one is told how."""

import shutil
from pathlib import Path

import pytest

from rslwm.latents.published.weights import MissingWeights, Source, Weights, digest, find_weights, missing

SOURCE = Source(("vae/net.safetensors", "vae/config.json"), 168, "Some licence", "somebody/model", revision="v1")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def copy(folder: Path, text: str = "weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "net.safetensors").write_text(text)
    (folder / "config.json").write_text("{}")
    return folder


def download(cache: Path) -> Path:
    """As the hub's client does it: content by its hash, a folder of links for a commit, a commit for a ref."""
    repository = cache / "models--somebody--model"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / COMMIT / "vae"
    for folder in (blobs, snapshot, repository / "refs"):
        folder.mkdir(parents=True)
    for i, name in enumerate(("net.safetensors", "config.json")):
        (blobs / f"{i}").write_text("{}")
        (snapshot / name).symlink_to(blobs / f"{i}")
    (repository / "refs" / "v1").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("below", ["", "vae"])
def test_the_folder_of_weights_has_a_subfolder_for_each_encoder(below: str, tmp_path: Path) -> None:
    place = copy(tmp_path / "weights" / "mine" / below)
    found = find_weights("mine", SOURCE, "", str(tmp_path / "weights"))
    digits = digest(place / "net.safetensors", place / "config.json")
    assert found == Weights(place / "net.safetensors", f"files-{digits}")


def test_a_file_may_be_given_and_has_its_companions_beside_it(tmp_path: Path) -> None:
    place = copy(tmp_path / "anywhere")
    found = find_weights("mine", SOURCE, str(place / "net.safetensors"), "")
    assert found == find_weights("mine", SOURCE, str(place), "")
    assert found is not None


def test_what_is_given_comes_before_the_folder_and_that_before_the_cache(tmp_path: Path, cache: Path) -> None:
    snapshot = download(cache)
    folder, given = copy(tmp_path / "weights" / "mine"), copy(tmp_path / "given")

    def file(*places: str) -> Path | None:
        found = find_weights("mine", SOURCE, *places)
        return found and found.file

    assert file(str(given), str(folder.parent)) == given / "net.safetensors"
    assert file("", str(folder.parent)) == folder / "net.safetensors"
    assert file("", "") == snapshot / "net.safetensors"
    assert file("", str(tmp_path / "empty")) == snapshot / "net.safetensors"
    assert file(str(tmp_path / "nowhere"), str(folder.parent)) is None


def test_the_machines_folder_is_looked_into_behind_the_configurations(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(cache)
    folder, machine = copy(tmp_path / "weights" / "mine"), copy(tmp_path / "machine" / "mine")
    monkeypatch.setenv("RSLWM_WEIGHTS", str(machine.parent))
    for configured, place in ((folder.parent, folder), (tmp_path / "moved", machine)):
        found = find_weights("mine", SOURCE, "", str(configured))
        assert found is not None
        assert found.file == place / "net.safetensors"
    with pytest.raises(MissingWeights, match="RSLWM_WEIGHTS"):
        raise missing("mine", SOURCE)


def test_the_same_files_are_the_same_revision_in_the_cache_and_in_a_folder(cache: Path, tmp_path: Path) -> None:
    snapshot = download(cache)
    copied = Path(shutil.copytree(snapshot, tmp_path / "copied"))
    cached, local = find_weights("mine", SOURCE, "", ""), find_weights("mine", SOURCE, str(copied), "")
    assert cached is not None
    assert local is not None
    assert cached.file != local.file
    assert cached.revision == local.revision


def test_a_download_that_lacks_a_file_is_none(cache: Path) -> None:
    (download(cache) / "config.json").unlink()
    assert find_weights("mine", SOURCE, "", "") is None


def test_another_revision_in_the_cache_is_not_taken(cache: Path) -> None:
    download(cache)
    other = Source(SOURCE.files, 168, "Some licence", "somebody/model", revision="v2")
    assert find_weights("mine", other, "", "") is None


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("name", ["net.safetensors", "config.json"])
def test_a_place_that_lacks_a_file_says_which_and_how_to_get_it(as_file: bool, name: str, tmp_path: Path) -> None:
    place = copy(tmp_path / "given")
    (place / name).unlink()
    if as_file and name == "config.json":
        place = place / "net.safetensors"
    with pytest.raises(MissingWeights) as refusal:
        find_weights("mine", SOURCE, str(place), "")
    assert f"vae/{name}" in str(refusal.value)
    assert SOURCE.command in str(refusal.value)


@pytest.mark.parametrize("name", ["net.safetensors", "config.json"])
def test_the_revision_changes_with_every_file(name: str, tmp_path: Path) -> None:
    place = copy(tmp_path / "given")
    before = find_weights("mine", SOURCE, str(place), "")
    (place / name).write_text("others")
    after = find_weights("mine", SOURCE, str(place), "")
    assert before is not None
    assert after is not None
    assert before.revision != after.revision


def test_the_digest_sees_the_middle_and_the_end_of_a_large_file(tmp_path: Path) -> None:
    file, digests = tmp_path / "large", set()
    for place in (0, 2_500_000, 4_999_999):
        content = bytearray(5_000_000)
        content[place] = 1
        file.write_bytes(content)
        digests.add(digest(file))
    assert len(digests) == 3


def test_missing_weights_are_named_with_size_licence_and_command() -> None:
    message = str(missing("mine", SOURCE, folder="weights"))
    for part in ("somebody/model", "vae/net.safetensors", "168 MB", "Some licence", "v1", "weights/mine"):
        assert part in message
    assert "hf download somebody/model vae/net.safetensors vae/config.json --revision v1" in message


def test_weights_outside_the_hub_are_fetched_by_their_address() -> None:
    elsewhere = Source(("net.pt",), 1200, "MIT", url="https://example.org/net.pt")
    message = str(missing("mine", elsewhere))
    assert "curl -LO https://example.org/net.pt" in message
    assert "cache" not in message
    assert "and put the file in a folder mine/" in message


def test_a_place_that_was_given_is_in_the_message() -> None:
    assert "looked in there/net.pt)" in str(missing("mine", SOURCE, given="there/net.pt"))
