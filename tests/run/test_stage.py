import functools
from pathlib import Path

import pytest

import toy_stages as toys
from rslwm.run.stage import Stage, StageRecord, Workspace
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.types import DataError


def test_the_key_ignores_the_name_and_the_cost():
    one = Stage("encoder", "small-vae@0", toys.write, SimConfig(), cost=3)
    two = Stage("encoder", "alias", toys.write, SimConfig())
    assert one == two
    assert {one: "shared"}[two] == "shared"


@pytest.mark.parametrize(
    "changed",
    [
        Stage("encoder", "a", toys.write, SimConfig(seed=1)),
        Stage("adapter", "a", toys.write, SimConfig()),
        Stage("encoder", "a", toys.write_anew, SimConfig()),
        Stage("encoder", "a", toys.write, SimConfig(), inputs=(Stage("data", "d", toys.write),)),
    ],
)
def test_the_key_depends_on_config_kind_version_and_inputs(changed):
    assert changed != Stage("encoder", "a", toys.write, SimConfig())


def test_the_key_follows_a_change_far_upstream():
    def chain(seed: int) -> Stage:
        data = Stage("data", "d", toys.write, SimConfig(seed=seed))
        return Stage("model", "m", toys.write, inputs=(Stage("encoder", "e", toys.write, inputs=(data,)),))

    assert chain(0) == chain(0)
    assert chain(0) != chain(1)


@pytest.mark.parametrize("run", [lambda work: None, functools.partial(toys.write)])
def test_a_function_that_workers_cannot_import_is_refused(run):
    with pytest.raises(ValueError, match="module-level function"):
        Stage("toy", "a", run)


@pytest.mark.parametrize("config", [float("nan"), {"path": Path("x")}])
def test_a_config_without_a_json_form_is_refused(config):
    with pytest.raises(ConfigError, match="the config of toy a can't be hashed"):
        _ = Stage("toy", "a", toys.write, config).key


def test_a_kind_that_is_no_folder_name_is_refused():
    with pytest.raises(ValueError, match=r"kind '\.\./up' must be"):
        Stage("../up", "a", toys.write)


def test_a_stage_function_can_be_called_without_a_runner(tmp_path):
    toys.write(Workspace({"text": "a", "trace": str(tmp_path / "trace")}, [], tmp_path))
    assert (tmp_path / "result.txt").read_text() == "a()"


def test_a_missing_or_damaged_record_is_named(tmp_path):
    with pytest.raises(DataError, match="not the output of a finished stage"):
        StageRecord.read(tmp_path)
    (tmp_path / "stage.json").write_text('{"kind": "toy"}')
    with pytest.raises(DataError, match=r"stage\.json: KeyError\('name'\)"):
        StageRecord.read(tmp_path)
