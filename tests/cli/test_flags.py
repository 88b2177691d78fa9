"""Command lines and the configurations that they mean."""

from dataclasses import replace
from pathlib import Path

import pytest

from rslwm.cli.compare import Compare, Train, TrainSpaces
from rslwm.cli.data import Make
from rslwm.cli.flags import parse
from rslwm.serialisation import ConfigError, dump
from rslwm.sim.config import SimConfig
from rslwm.study.config import DEMO_LATENTS, FROM_SCRATCH, PRESETS, StudyConfig, taking


def compare(*words: str) -> Compare:
    return parse(Compare, "rslwm compare", words)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_alone_is_that_preset(preset):
    parsed = compare(preset)
    assert parsed.config == PRESETS[preset]
    assert (parsed.name, parsed.folder, parsed.jobs, parsed.estimate) == (preset, Path("runs") / preset, 0, False)


def test_a_dotted_flag_changes_one_field_and_nothing_else():
    expected = PRESETS["smoke"]
    model = expected.world_model
    expected = replace(expected, world_model=replace(model, optim=replace(model.optim, steps=300)))
    assert compare("smoke", "--world-model.optim.steps", "300").config == expected


def test_shorthands():
    parsed = compare("demo", "--latents", "small-vae,mine.py:Mine", "--data", "lerobot:somewhere", "--seeds", "3")
    assert parsed.config.latents == ("small-vae", "mine.py:Mine")
    assert parsed.config.data == replace(PRESETS["demo"].data, uri="lerobot:somewhere")
    assert parsed.config.seeds == 3


def test_a_list_is_one_word_so_that_it_swallows_nothing():
    parsed = compare("--latents", "small-vae", "demo", "--data=sim:tabletop")
    assert (parsed.study, parsed.config.latents) == ("demo", ("small-vae",))


def test_lists_of_numbers():
    assert compare("demo", "--data.sim.noise", "0,0.5").config.data.sim.noise == (0.0, 0.5)
    assert compare("demo", "--encoder.optim.betas", "0.8,0.9").config.encoder.optim.betas == (0.8, 0.9)


def test_a_file_is_read_and_overridden(tmp_path):
    path = tmp_path / "config.yaml"
    dump(replace(StudyConfig(), seeds=2), path)
    parsed = compare(str(path), "--data.frame-skip", "1")
    assert parsed.config == replace(StudyConfig(), seeds=2, data=replace(StudyConfig().data, frame_skip=1))


def test_the_configuration_of_a_run_has_the_name_of_the_run(tmp_path):
    (tmp_path / "mine").mkdir()
    dump(StudyConfig(), tmp_path / "mine/config.yaml")
    dump(StudyConfig(), tmp_path / "other.yaml")
    assert compare(str(tmp_path / "mine/config.yaml")).name == "mine"
    assert compare(str(tmp_path / "other.yaml")).name == "other"


def test_an_unknown_field_in_a_file_is_named(tmp_path):
    (tmp_path / "c.yaml").write_text("world_model: {optim: {step: 3}}\n")
    with pytest.raises(ConfigError, match=r"world_model.optim: unknown field 'step'; known: .*steps"):
        compare(str(tmp_path / "c.yaml"))


def test_a_value_that_looks_like_a_preset_is_not_taken_for_one():
    with pytest.raises(ConfigError, match="'smoke' must be the first argument"):
        compare("--note", "demo", "smoke")


def test_every_field_of_the_simulator_is_a_flag():
    parsed = parse(Make, "rslwm data make", ["folder", "--episodes", "3", "--families", "push", "--shadows"])
    assert parsed.folder == Path("folder")
    assert parsed.sim == replace(SimConfig(), episodes=3, families=("push",), shadows=True)


def test_train_takes_what_compare_takes():
    words = ["smoke", "--latents", "small-vae", "--out", "there", "--executor", "mine.py:Mine"]
    parsed = parse(Train, "rslwm train", words)
    assert parsed.config == replace(PRESETS["smoke"], latents=("small-vae",))
    assert (parsed.folder, parsed.executor) == (Path("there"), "mine.py:Mine")


@pytest.fixture
def demo_on_shipped_spaces(monkeypatch):
    """As if a collection called points were shipped, and the demo started from it."""
    monkeypatch.setitem(PRESETS, "demo", taking("points"))


@pytest.mark.usefixtures("demo_on_shipped_spaces")
@pytest.mark.parametrize("more", [[], ["--data", "sim:tabletop"], ["--world-model.optim.steps", "9"]])
def test_the_demo_takes_shipped_spaces_and_trains_two_world_models_of_each(more):
    config = compare("demo", *more).config
    assert config.latents == tuple(f"{name}@points" for name in DEMO_LATENTS)
    assert config.seeds == 2
    assert "come with the package" in config.note
    assert "a demonstration, not evidence" in config.note


@pytest.mark.usefixtures("demo_on_shipped_spaces")
@pytest.mark.parametrize("asked", [["--from-scratch"], ["--data", "lerobot:mine"], ["--data=lerobot:mine"]])
def test_from_scratch_or_on_other_data_the_demo_trains_its_spaces(asked):
    config = compare("demo", *asked).config
    scratch = FROM_SCRATCH["demo"]
    assert config == replace(scratch, data=replace(scratch.data, uri=config.data.uri))
    assert (config.latents, config.seeds) == (DEMO_LATENTS, 1)


@pytest.mark.usefixtures("demo_on_shipped_spaces")
def test_spaces_that_are_named_are_trained_as_from_scratch():
    assert parse(TrainSpaces, "rslwm latents train", ["small-vae"]).config == replace(
        FROM_SCRATCH["demo"], latents=("small-vae",)
    )


def test_a_file_names_its_spaces_itself(tmp_path):
    dump(StudyConfig(), tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match=r"--from-scratch: .*c\.yaml is no preset"):
        compare(str(tmp_path / "c.yaml"), "--from-scratch")


def test_what_is_measured_is_named_with_its_settings():
    planning = "planning[plan.horizon=2,windows=4]"
    config = compare("smoke", "--metrics", f"visual,{planning}", "--evaluation.rollouts.clips", "3").config
    assert config.metrics == ("visual", planning)
    assert config.evaluation.rollouts.clips == 3
