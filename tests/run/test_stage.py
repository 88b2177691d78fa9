import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import toy_stages as toys
from rslwm.registry import import_file
from rslwm.run.stage import OPENED, Demand, Stage, StageRecord, Workspace, closure
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.types import DataError

PLUGIN = """
from dataclasses import dataclass
from rslwm.run.stage import Stage

@dataclass(frozen=True, eq=False, kw_only=True)
class Mine(Stage[int]):
    kind = "mine"
    number: int = 1

    def run(self, work):
        (work.out / "number").write_text(str(self.number + 1))

    def open(self, work):
        return int((work.out / "number").read_text())
"""

TOY = toys.Simulated(label="a")
DATA = toys.Toy(label="data")
OTHER = toys.Toy(label="data", text="other")


def test_the_key_ignores_the_label_the_cost_and_knobs():
    same = toys.Simulated(label="alias", cost=3, large=True)
    assert same == TOY
    assert {TOY: "shared"}[same] == "shared"
    assert str(same) == "toy alias"


@pytest.mark.parametrize(
    "changed",
    [
        toys.Simulated(label="a", sim=SimConfig(seed=1)),
        toys.Renewed(label="a"),
        toys.Simulated(label="a", data=DATA),
        toys.Simulated(label="a", data=OTHER),
        toys.Simulated(label="a", parts=(DATA,)),
        toys.Simulated(label="a", parts=(DATA, OTHER)),
        toys.Simulated(label="a", parts=(OTHER, DATA)),
    ],
)
def test_the_key_depends_on_config_version_and_on_who_is_needed_as_what(changed):
    others = [toys.Simulated(label="a"), toys.Simulated(label="a", data=DATA, parts=(DATA,))]
    assert changed not in others


def test_the_key_depends_on_the_kind():
    @dataclass(frozen=True, eq=False, kw_only=True)
    class Kindred(toys.Toy):
        kind = "kindred"

    assert Kindred(label="a").key != toys.Toy(label="a").key


def test_the_key_follows_a_change_far_upstream():
    def chain(seed: int) -> Stage:
        data = toys.Simulated(label="d", sim=SimConfig(seed=seed))
        return toys.Simulated(label="m", data=toys.Simulated(label="e", parts=(data,)))

    assert chain(0) == chain(0)
    assert chain(0) != chain(1)


def test_needs_are_the_fields_that_hold_stages_and_all_others_are_the_config():
    stage = toys.Simulated(label="a", text="b", data=DATA, parts=(DATA, OTHER))
    assert stage.needs == {"data": DATA, "parts.0": DATA, "parts.1": OTHER}
    assert list(stage.config) == ["text", "cost", "large", "gpu", "sim"]
    assert stage.config["sim"]["seed"] == 0
    assert TOY.config["data"] is None
    assert closure([stage]) == [DATA, OTHER, stage]


def test_a_whole_number_is_the_float_that_it_stands_for():
    assert toys.Write(label="a", trace="", sleep=1) == toys.Write(label="a", trace="", sleep=1.0)


@pytest.mark.parametrize("value", [float("nan"), Path("x"), [DATA.run]])
def test_a_config_without_a_json_form_is_refused(value):
    with pytest.raises(ConfigError, match="the config of toy a can't be hashed"):
        _ = toys.Toy(label="a", text=value).key


def test_a_kind_that_is_no_folder_name_is_refused():
    class Up(toys.Toy):
        kind = "../up"

    with pytest.raises(ValueError, match=r"kind '\.\./up' must be"):
        Up(label="a")


def test_a_class_that_compares_by_its_fields_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Forgetful(toys.Toy):
        number: int = 1

    with pytest.raises(TypeError, match=r"Forgetful must be a @dataclass.*eq=False"):
        Forgetful(label="a")


def test_a_stage_in_a_users_file_is_found_and_its_code_is_in_its_key(tmp_path, monkeypatch):
    file = tmp_path / "plugin.py"

    def made() -> Stage:
        for name in [name for name in sys.modules if name.startswith("rslwm_plugin_plugin_")]:
            monkeypatch.delitem(sys.modules, name)
        return import_file(file).Mine(label="a")

    file.write_text(PLUGIN)
    before = made()
    assert before == made()
    file.write_text(PLUGIN.replace("self.number + 1", "self.number + 2"))
    assert before != made()
    assert made().edition.startswith("1 by ")


def test_a_stage_runs_and_opens_without_a_runner(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    stage = import_file(tmp_path / "plugin.py").Mine(label="a", number=4)
    work = Workspace(tmp_path, tmp_path / "stages")
    work.folder(stage).mkdir(parents=True)
    stage.run(replace(work, out=work.folder(stage)))
    assert work.open(stage) == 5


def test_a_stage_opens_as_its_folder_unless_it_knows_better(tmp_path):
    assert Workspace(tmp_path, tmp_path / "stages").open(DATA) == tmp_path / f"stages/toy-{DATA.key}"


def test_what_was_opened_is_kept_as_long_as_there_is_room_or_nobody_tidies_up(tmp_path):
    opened: list[str] = []

    class Opening(toys.Toy):
        def open(self, work):
            opened.append(self.text)
            return work.out

    first, *others = (Opening(label="", text=str(i)) for i in range(OPENED + 1))
    work = Workspace(tmp_path, tmp_path)
    assert work.open(first) is work.open(first)
    for stage in [*others[:-1], first]:
        work.open(stage)
    assert opened == [first.text, *(stage.text for stage in others[:-1])]
    work.open(others[-1])  # in place of the one that nobody has asked for longest
    work.open(first)
    work.open(others[0])
    assert opened[-2:] == [others[-1].text, others[0].text]
    work.close_all_but([first])
    work.open(first)
    work.open(others[-1])
    assert opened.count(first.text) == 1
    assert opened.count(others[-1].text) == 2


def test_facts_add_up_and_are_read_without_opening(tmp_path):
    work = Workspace(tmp_path / f"toy-{DATA.key}", tmp_path)
    work.out.mkdir()
    assert work.facts(DATA) == {}
    work.write_facts(parameters=3)
    work.write_facts(frames=4)
    assert work.facts(DATA) == {"parameters": 3, "frames": 4}
    assert [path.name for path in work.out.iterdir()] == ["facts.json"]


def test_a_stage_demands_nothing_unless_it_says_so_and_demands_add_up():
    assert DATA.demand(None) == Demand()
    assert Demand(1, 2, 3) + Demand(10, 20, 1) == Demand(11, 22, 3)  # one after the other


def test_a_missing_or_damaged_record_is_named(tmp_path):
    with pytest.raises(DataError, match="not the output of a finished stage"):
        StageRecord.read(tmp_path)
    (tmp_path / "stage.json").write_text('{"kind": "toy"}')
    with pytest.raises(DataError, match=r"stage\.json: KeyError\('label'\)"):
        StageRecord.read(tmp_path)
