"""Things found by name: built in, in a user's file, or not at all."""

import sys
from pathlib import Path

import pytest

from rslwm.registry import Registry, UnknownName, import_file


@pytest.fixture
def registry() -> Registry:
    def load() -> None:
        registry.register("small-vae")(int)
        registry.register("small-dino")(float)

    registry: Registry = Registry("encoder", "rslwm.test", load)
    return registry


def test_built_in_entries_are_loaded_on_first_use(registry: Registry) -> None:
    assert list(registry) == ["small-vae", "small-dino"]
    assert registry.get("small-vae") is int
    assert "small-dino" in registry


def test_a_misspelt_name_is_told_its_neighbour_and_all_others(registry: Registry) -> None:
    with pytest.raises(UnknownName, match=r"'small-vea'; did you mean 'small-vae'\? Known: small-vae, small-dino\."):
        registry.get("small-vea")


def test_an_unlike_name_is_told_what_there_is(registry: Registry) -> None:
    with pytest.raises(UnknownName, match=r"no encoder called 'qqq'\. Known: small-vae, small-dino\."):
        registry.get("qqq")


def test_a_name_is_given_once(registry: Registry) -> None:
    registry.register("mine")(str)
    registry.register("mine")(str)
    with pytest.raises(ValueError, match=r"'mine' is registered twice"):
        registry.register("mine")(bytes)


def test_a_class_in_a_users_file_is_found_and_imported_once(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("class Mine:\n    pass\n")
    assert registry.get(f"{file}:Mine") is registry.get(f"{file}:Mine")
    assert registry.get(f"{file}:Mine").__name__ == "Mine"


def test_a_class_that_the_file_lacks_is_answered_with_those_it_has(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "lacking.py"
    file.write_text("class Yours:\n    pass\n")
    with pytest.raises(UnknownName, match=r"lacking\.py has no 'Mine'; it defines: Yours"):
        registry.get(f"{file}:Mine")


def test_a_file_that_is_not_there_is_named(registry: Registry) -> None:
    with pytest.raises(UnknownName, match=r"/nowhere/own\.py does not exist"):
        registry.get("/nowhere/own.py:Mine")


def test_a_file_that_fails_is_not_kept_half_imported(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("later = 1\nraise RuntimeError('broken')\n")
    with pytest.raises(RuntimeError, match="broken"):
        import_file(file)
    assert not [name for name in sys.modules if name.startswith("rslwm_plugin_broken")]
    file.write_text("later = 2\n")
    assert import_file(file).later == 2
