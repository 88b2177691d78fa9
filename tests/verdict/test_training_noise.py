import json
from dataclasses import replace

import numpy as np
import pytest

from planted import INFOS, study
from rslwm.serialisation import to_dict
from rslwm.study.config import FROM_SCRATCH, StudyConfig
from rslwm.study.graph import Study
from rslwm.types import DataError
from rslwm.verdict import training_noise
from rslwm.verdict.decide import decide
from rslwm.verdict.training_noise import Circumstances, load, pooled_sd, record, shipped

DEMO = FROM_SCRATCH["demo"]


def trained(seeds=3, training=0.1, rng=0):
    return study({"a": 0.5, "b": 0.4, "c": 0.3}, np.random.default_rng(rng), seeds=seeds, training=training)


def made(table, config=DEMO, **versions):
    return Circumstances.of(table, to_dict(config), versions)


def on_file(tmp_path, config=DEMO, **versions):
    path = tmp_path / "own.json"
    record(trained(), INFOS, made(trained(), config, **versions), "own").save(path, {name: "1" for name in INFOS})
    return path


def find(path, config=DEMO, **versions):
    table = trained(1)
    return training_noise.find(str(path), made(table, config, **versions), made(table, StudyConfig()))


def test_a_study_with_seeds_records_what_each_training_measured():
    table = trained(training=0.2)
    noise = record(table, INFOS, made(table), "own")
    mask = (table["metric"] == "planning") & (table["latent"] == "b") & (table["seed"] == 2)
    assert noise.values["planning"][1, 2] == pytest.approx(table["value"][mask].mean())
    assert pooled_sd(noise.values["planning"]) == pytest.approx(0.2, rel=0.7)
    assert noise.freedom == 6


def test_the_record_survives_the_round_trip_and_says_what_it_holds(tmp_path):
    path = on_file(tmp_path)
    noise, found = load(path), json.loads(path.read_text())
    for metric, values in record(trained(), INFOS, made(trained()), "own").values.items():
        np.testing.assert_allclose(noise.values[metric], values, rtol=1e-5)
        assert found["metrics"][metric]["sd"] == pytest.approx(pooled_sd(values), rel=1e-4)
        assert found["metrics"][metric]["freedom"] == 6
    assert found["config"]["world_model.optim.steps"] == DEMO.world_model.optim.steps


def test_one_seed_records_nothing():
    with pytest.raises(DataError, match="trained once, which shows no training noise; --seeds 3"):
        record(trained(seeds=1), INFOS, made(trained()), "own")


def test_a_space_that_misses_a_seed_is_recorded_as_such(tmp_path):
    table = trained()
    table = table.where((table["latent"] != "b") | (table["seed"] == 0))
    noise = record(table, INFOS, made(table), "own")
    assert noise.freedom == 4
    noise.save(tmp_path / "gap.json", {name: "1" for name in INFOS})
    assert np.isnan(load(tmp_path / "gap.json").values["planning"][1, 1:]).all()


def test_knobs_and_the_list_of_spaces_do_not_matter_but_budgets_and_data_do(tmp_path):
    path = on_file(tmp_path)
    optim = DEMO.world_model.optim
    same = replace(
        DEMO, latents=("small-vae",), seeds=2, note="",
        world_model=replace(DEMO.world_model, optim=replace(optim, checkpoint_every=7, keep=3, log_every=5)),
    )  # fmt: skip
    assert find(path, same).unlike == ()
    longer = replace(DEMO, world_model=replace(DEMO.world_model, optim=replace(optim, steps=900)))
    assert find(path, longer).unlike == (f"world_model.optim.steps {optim.steps} there, 900 here",)
    fewer = replace(DEMO, data=replace(DEMO.data, sim=replace(DEMO.data.sim, episodes=60)))
    assert find(path, fewer).unlike == ("data.sim.episodes 320 there, 60 here",)
    short = replace(DEMO, evaluation=replace(DEMO.evaluation, rollouts=replace(DEMO.evaluation.rollouts, future=2)))
    assert [fact.split()[0] for fact in find(path, short).unlike] == ["evaluation.rollouts.future"]


def test_a_field_that_the_record_does_not_know_yet_counts_by_its_default(tmp_path):
    path = on_file(tmp_path)
    found = json.loads(path.read_text())
    del found["config"]["world_model.alignment"]
    path.write_text(json.dumps(found))
    assert find(path).unlike == ()
    outgoing = replace(DEMO, world_model=replace(DEMO.world_model, alignment="outgoing"))
    assert len(find(path, outgoing).unlike) == 1


def test_a_single_seed_is_judged_by_the_record(tmp_path):
    noise = find(on_file(tmp_path))
    axis = decide(trained(1, training=0.0), INFOS, DEMO.verdict, noise).axes["planning"]
    assert axis.noise.origin == "record"
    assert axis.noise.freedom == 6


def test_of_the_shipped_records_the_one_of_this_configuration_is_taken(tmp_path, monkeypatch):
    (tmp_path / "noise").mkdir()
    monkeypatch.setattr(training_noise, "files", lambda package: tmp_path)
    for name in ("demo", "smoke"):
        noise = record(trained(), INFOS, made(trained(), FROM_SCRATCH[name]), name)
        noise.save(tmp_path / "noise" / f"{name}.json", {n: "1" for n in INFOS})
    assert find("", FROM_SCRATCH["smoke"]).name == "smoke"
    assert find("").unlike == ()
    other = replace(DEMO, data=replace(DEMO.data, uri="lerobot:mine"))
    assert "data.uri" in find("", other).unlike[0]


def test_where_spaces_were_trained_elsewhere_noise_of_their_training_is_not_this_studys(tmp_path):
    usual = made(trained(), StudyConfig()).taking([])
    here, noise = made(trained()), load(on_file(tmp_path)).made
    assert here.taking([]).unlike(noise, usual) == ()
    assert here.taking(["b@points", "a@points"]).unlike(noise, usual) == (
        "spaces trained elsewhere none there, a@points, b@points here",
    )


def test_a_missing_or_foreign_file_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json does not exist; `rslwm report RUN --training-noise"):
        find(tmp_path / "absent.json")
    for text in ("{", "[]", '{"metrics": {"planning": 3}}', '{"metrics": {}}'):
        (tmp_path / "foreign.json").write_text(text)
        with pytest.raises(DataError, match="is not a record of training noise"):
            find(tmp_path / "foreign.json")


def test_a_record_of_other_rows_is_not_used(tmp_path):
    path = on_file(tmp_path, visual="1", success="1")
    assert find(path, visual="1", success="2").unlike == ("version of success 1 there, 2 here",)
    assert find(path, visual="1", mine="3").unlike == ()  # what only one of them has is compared with nothing


def test_every_shipped_record_belongs_to_the_preset_of_its_name():
    records = shipped()
    assert "demo" in {noise.name for noise in records}
    for noise in records:
        here = replace(
            made(trained(), FROM_SCRATCH[noise.name]).taking([]),
            size=noise.made.size,
            versions=Study(FROM_SCRATCH[noise.name]).editions,
        )
        assert here.unlike(noise.made, made(trained(), StudyConfig()).taking([])) == (), noise.name
        assert noise.freedom > 3
