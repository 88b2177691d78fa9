"""Configurations are written, read strictly and hashed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.space import SpaceConfig
from rslwm.optim import OptimConfig
from rslwm.plan.base import PlanConfig
from rslwm.serialisation import ConfigError, content_hash, dump, from_dict, load, to_dict
from rslwm.study.config import PRESETS, StudyConfig


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_a_round_trip_through_yaml(name: str, tmp_path: Path) -> None:
    dump(PRESETS[name], tmp_path / "config.yaml")
    assert load(StudyConfig, tmp_path / "config.yaml") == PRESETS[name]


def test_fields_left_out_keep_their_defaults() -> None:
    config = from_dict(StudyConfig, {"world_model": {"optim": {"steps": 7}}})
    assert config.world_model.optim.steps == 7
    assert config.data == StudyConfig().data


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encodr": {}}, r"StudyConfig: unknown field 'encodr'; known: .*encoder"),
        ({"encoder": {"optim": {"step": 3}}}, r"encoder\.optim: unknown field 'step'; known: .*steps"),
        ({"encoder": 3}, r"encoder: expected a mapping, got 3"),
        ({"seeds": "two"}, r"seeds: expected int, got 'two'"),
        ({"seeds": True}, r"seeds: expected int, got True"),
        ({"encoder": {"optim": {"lr": "1e-3"}}}, r"encoder\.optim\.lr: expected float, got '1e-3' \(.*write 1\.0e-3"),
        ({"data": {"actions": "mean"}}, r"data\.actions: 'mean' is not one of 'compose', 'first'"),
        ({"latents": "small-vae"}, r"latents: expected a list, got 'small-vae'"),
        ({"latents": ["small-vae", 3]}, r"latents\[1\]: expected str, got 3"),
        ({"adapter": {"optim": {"betas": [0.9]}}}, r"adapter\.optim\.betas: expected 2 values, got \[0\.9\]"),
        ({"scaling": {"optim": 0.1}}, r"scaling\.optim: expected a mapping, got 0\.1"),
        ({"scaling": {"optim": {"B": {"lr": "x"}}}}, r"scaling\.optim\.B\.lr: expected float, got 'x'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(StudyConfig, values)


def test_a_field_without_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"SpaceConfig: field 'image_size' is missing"):
        from_dict(SpaceConfig, {"reference": "small-vae"})


def test_whole_numbers_serve_as_floats() -> None:
    assert from_dict(OptimConfig, {"lr": 1}) == OptimConfig(lr=1.0)
    assert isinstance(from_dict(OptimConfig, {"lr": 1}).lr, float)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", r"config\.yaml is not YAML"), ("- 1", r"must hold a mapping, got list")]
)
def test_a_file_that_holds_no_configuration_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(StudyConfig, tmp_path / "config.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml does not exist"):
        load(StudyConfig, tmp_path / "config.yaml")


def test_a_whole_number_in_a_floats_place_survives_a_file(tmp_path: Path) -> None:
    """Otherwise a run's own config.yaml would name other stages than the run."""
    config = PlanConfig(memory_mb=64)
    dump(config, tmp_path / "plan.yaml")
    assert content_hash(load(PlanConfig, tmp_path / "plan.yaml")) == content_hash(config)


def test_equal_content_has_equal_hashes_in_every_process() -> None:
    imports = "from rslwm.study.config import StudyConfig; from rslwm.serialisation import content_hash"
    code = imports + "; print(content_hash(StudyConfig(), {'b': 1, 'a': (2,)}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert content_hash(StudyConfig(), {"a": [2], "b": 1}) == other


def test_any_field_moves_the_hash() -> None:
    config = AdapterConfig()
    assert content_hash(replace(config, kl_weight=2e-4)) != content_hash(config)
    assert to_dict(config)["optim"]["betas"] == [0.9, 0.99]
