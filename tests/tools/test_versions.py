"""Code that makes other results than it did must say so by a version."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import versions
from rslwm.study.stages.base import FramesStage

Edit = Callable[[str, str, str], None]
DECODER = ("rslwm.study.stages.decoder", "DecoderStage")
WORLD_MODEL = ("rslwm.study.stages.world_model", "WorldModelStage")


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Replace text in a module's source, as far as versions see it."""

    def replace(module: str, old: str, new: str) -> None:
        source, parse = inspect.getsource(importlib.import_module(module)), versions.parse
        assert old in source
        edited = versions.read(module, source.replace(old, new))
        monkeypatch.setattr(versions, "parse", lambda name: edited if name == module else parse(name))

    return replace


def test_no_result_changes_without_its_version() -> None:
    """If this fails: python tools/versions.py says what to do."""
    assert versions.unraised() == []
    assert versions.current() == versions.noted()


def test_a_change_of_what_a_stage_uses_is_found_and_others_are_left_alone(edit: Edit) -> None:
    before = versions.current()
    edit("rslwm.train.loop", "step + 9.0", "step + 8.0")
    moved = {name for name, entry in versions.current().items() if entry["digest"] != before[name]["digest"]}
    assert {"stage world-model", "stage encoder", "stage probe"} <= moved
    assert not moved & {"stage data", "stage frames", "encoder small-vae", "metric visual"}


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("rslwm.optim", "weight_decay", "weight_deca"),
        ("rslwm.latents.decoder", "class ResidualBlock(nn.Module):", "class ResidualBlock(nn.Module):\n    more = 1\n"),
        ("rslwm.study.stages.decoder", 'seeded(self.seed, "decoder weights")', 'seeded(self.seed, "weights")'),
    ],
)
def test_a_change_in_any_module_on_the_way_is_found(edit: Edit, module: str, old: str, new: str) -> None:
    before = versions.digest(DECODER)
    edit(module, old, new)
    assert versions.digest(DECODER) != before


def test_comments_docstrings_and_layout_change_nothing(edit: Edit) -> None:
    before = versions.digest(WORLD_MODEL)
    edit("rslwm.train.loop", '    """One step of :func:`fit`:', '    # A comment.\n\n    """Step:')
    assert versions.digest(WORLD_MODEL) == before


def test_planners_and_data_sources_are_reached_through_their_registries() -> None:
    planning = {module for module, _ in versions.reached(("rslwm.evals.planning", "Planning"))}
    assert "rslwm.plan.search" in planning
    data = {module for module, _ in versions.reached(("rslwm.study.stages.base", "DataStage"))}
    assert {"rslwm.data.sources.rlds", "rslwm.data.tfds", "rslwm.sim.tabletop"} <= data


def test_a_changed_digest_is_noted_only_with_a_raised_version_or_on_request(
    edit: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions, "NOTED", tmp_path / "versions.json")
    assert versions.main([]) == 0
    edit("rslwm.data.frames", "BLACK", "BLACK_")
    edit("rslwm.data.store", "INDEX", "INDEX_")
    assert versions.main([]) == 1
    assert "stage frames" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(FramesStage, "version", 2)
        assert "stage frames" not in versions.unraised()
    assert versions.main(["--results-unchanged"]) == 0
    assert versions.unraised() == []
