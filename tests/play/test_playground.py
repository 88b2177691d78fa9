"""What is played: which world models, and whether they fit each other."""

from dataclasses import replace
from pathlib import Path

import pytest

from grounds import COMPUTE, PLAY, ground, skipping
from rslwm.play.playground import Pane, PlayConfig, Playground, imagined, open_playground, probe_of, resolve
from rslwm.registry import UnknownName
from rslwm.serialisation import ConfigError
from rslwm.shipping import names
from rslwm.sim.tabletop import SPEC
from rslwm.types import DataError


def test_without_names_all_of_a_run_are_played(tmp_path: Path) -> None:
    for name in ("b", "a"):
        folder = tmp_path / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
    assert [path.name for path in resolve([], tmp_path)] == ["a", "b"]


def test_without_a_run_those_are_played_that_come_with_the_package() -> None:
    assert [path.name for path in resolve([], None)] == [name.partition("@")[0] for name in names()]
    assert resolve(["small-vae@tabletop"], None)[0].name == "small-vae"
    with pytest.raises(UnknownName, match="Shipped: "):
        resolve(["nothing@tabletop"], None)


def test_a_run_without_world_models_says_what_to_wait_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no world model"):
        resolve([], tmp_path)


def test_the_simulator_alone_is_a_world() -> None:
    ground = open_playground([], True, PLAY, COMPUTE)
    assert [pane.name for pane in ground.panes] == ["truth"]
    assert ground.truth is ground.panes[0]


def test_a_checkpoint_is_shown_beside_the_truth(plugin: Path, tmp_path: Path) -> None:
    skipping(plugin).save(tmp_path / "tiny")
    ground = open_playground([tmp_path / "tiny"], False, PLAY, COMPUTE)
    assert [pane.name for pane in ground.panes] == ["truth", "tiny"]
    assert ground.panes[1].probe is None


def test_worlds_whose_actions_differ_are_not_mixed(plugin: Path) -> None:
    known, other = ground(plugin), skipping(plugin)
    other.action_spec = replace(SPEC, mode="absolute")
    pane = Pane("other", "floor", imagined(other, PLAY, COMPUTE), other)
    with pytest.raises(DataError, match="truth and other differ in 'mode'"):
        Playground((*known.panes, pane), known.beginnings)


def test_worlds_of_other_frame_skips_are_not_mixed(plugin: Path) -> None:
    known, other = ground(plugin), skipping(plugin)
    other.action_spec = replace(known.spec, low=tuple(2 * x for x in known.spec.low))
    pane = Pane("other", "floor", imagined(other, PLAY, COMPUTE), other)
    with pytest.raises(DataError, match="other bounds"):
        Playground((*known.panes, pane), known.beginnings)


def test_more_context_than_a_model_looks_back_at_is_refused(plugin: Path, tmp_path: Path) -> None:
    skipping(plugin).save(tmp_path / "tiny")
    with pytest.raises(ConfigError, match="context is 4"):
        open_playground([tmp_path / "tiny"], False, PlayConfig(context=4), COMPUTE)


def test_a_checkpoint_outside_a_run_has_no_probe(plugin: Path, tmp_path: Path) -> None:
    assert probe_of(tmp_path / "tiny", skipping(plugin)) is None


def test_policies_are_offered_the_best_first(plugin: Path) -> None:
    assert ground(plugin, config=replace(PLAY, policies=("mine.yaml",))).policies[:2] == (
        "mine.yaml",
        "sees-points-1000",
    )
