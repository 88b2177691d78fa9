"""Things found by name: built in, in a user's file, or not at all."""

import importlib
import sys
import threading
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from rslwm.registry import Registry, UnknownName, code_of, import_file
from rslwm.serialisation import ConfigError


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


def test_a_registry_whose_loading_fails_says_so_every_time_and_loads_when_repaired() -> None:
    broken = [True, True]

    def load() -> None:
        registry.register("first")(type("First", (), {"__module__": "m", "__qualname__": "First"}))
        if broken and broken.pop():
            raise ImportError("half of it")
        registry.register("second")(int)

    registry: Registry = Registry("encoder", "rslwm.test", load)
    for _ in range(2):
        with pytest.raises(ImportError, match="half of it"):
            registry.get("first")
    assert list(registry) == ["first", "second"]


def test_a_loader_may_look_for_what_is_loaded_already() -> None:
    def load() -> None:
        registry.register("first")(int)
        assert registry.get("first") is int

    registry: Registry = Registry("encoder", "rslwm.test", load)
    assert list(registry) == ["first"]


def test_threads_that_come_while_a_registry_is_loaded_wait_for_the_whole() -> None:
    loading, loads = threading.Event(), []

    def load() -> None:
        loads.append(1)
        loading.set()
        time.sleep(0.2)
        registry.register("late")(int)

    registry: Registry = Registry("encoder", "rslwm.test", load)
    thread = threading.Thread(target=lambda: list(registry))
    thread.start()
    loading.wait()
    assert registry.get("late") is int
    thread.join()
    assert loads == [1]


def test_a_broken_installed_plugin_is_named(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "no_such_package_here:Thing", "rslwm.test")
    monkeypatch.setattr("rslwm.registry.entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match=r"encoder 'theirs' can't be loaded: ModuleNotFoundError.*uninstall"):
        registry.get("small-vae")
    monkeypatch.setattr("rslwm.registry.entry_points", lambda group: [])
    assert registry.get("small-vae") is int


def test_code_is_known_by_a_hash_unless_it_is_ours(tmp_path: Path, registry: Registry) -> None:
    file = tmp_path / "coded.py"
    file.write_text("class Mine:\n    pass\n")
    mine = registry.get(f"{file}:Mine")
    before = code_of(mine)
    file.write_text("class Mine:\n    more = 1\n")
    assert code_of(mine) != before != ""
    assert code_of(Registry) == ""


def test_code_beside_a_file_that_it_imports_counts_too(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_beside.py").write_text("import numpy\nfrom helper_beside import scale\nclass Mine: ...\n")
    (tmp_path / "helper_beside.py").write_text("scale = 1\n")
    (tmp_path / "unrelated.py").write_text("")
    mine = registry.get(f"{tmp_path}/mine_beside.py:Mine")
    before = code_of(mine)
    (tmp_path / "unrelated.py").write_text("1\n")
    assert code_of(mine) == before
    (tmp_path / "helper_beside.py").write_text("scale = 2\n")
    assert code_of(mine) != before


def test_the_whole_package_that_a_plugin_uses_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "plugged_in"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "metric.py").write_text("from .. import core\nclass Mine: ...\n")
    (package / "core.py").write_text("from .inner.deep import depth\n")
    (package / "inner" / "deep.py").write_text("depth = 1\n")
    mine = importlib.import_module("plugged_in.inner.metric").Mine
    before = code_of(mine)
    (package / "inner" / "deep.py").write_text("depth = 2\n")
    assert code_of(mine) != before
