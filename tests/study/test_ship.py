"""World models of a run become small folders with cards, which go by name and keep what their cards say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from here import HERE
from rslwm import shipping
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.latents.space import LatentSpace
from rslwm.model.world_model import WorldModel
from rslwm.run.executors.base import EXECUTORS
from rslwm.serialisation import ConfigError, dump
from rslwm.shipping import SHIPPED, Card, located, names, sums
from rslwm.sim.config import SimConfig
from rslwm.study import ship as module
from rslwm.study.compare import compare
from rslwm.study.config import StudyConfig
from rslwm.study.record import RunRecord
from rslwm.study.ship import TOLERANCE, Packed, check, ship
from rslwm.types import DataError
from rslwm.verdict.decide import Verdict
from studies import tiny

LARGEST = 30e6
"""Bytes that the package spends on world models, all together."""
SPACES = ("small-vae", "small-dino+4")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, Path]:
    """A study of a few short episodes, every space trained twice, all stages in this process."""
    root = tmp_path_factory.mktemp("run")
    sim = SimConfig(episodes=8, image_size=32, min_steps=14, max_steps=16)
    data = DataConfig(uri="sim:tabletop", image_size=32, frame_skip=1, sim=sim, test_fraction=0.4)
    config = tiny(Corpus(None, None, data), *SPACES)  # type: ignore[arg-type]
    config = replace(config, seeds=2, metrics=("visual",))
    compare(config, root, jobs=1, command="rslwm compare points", executor=HERE)
    return config, root


@pytest.fixture(scope="module")
def packed(run: tuple[StudyConfig, Path]) -> list[Packed]:
    """The second training of each, as NAME@points."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EPISODES", 8)
        patch.setitem(EXECUTORS._entries, "local", EXECUTORS.get(HERE))
        return [*ship(run[1], "points", run[1] / "shipped", seed=1)]


@pytest.fixture
def by_name(packed: list[Packed], run: tuple[StudyConfig, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "SHIPPED", run[1] / "shipped")


@pytest.mark.slow
def test_every_space_becomes_a_small_world_model_that_loads(
    packed: list[Packed], run: tuple[StudyConfig, Path]
) -> None:
    assert [each.card.name for each in packed] == [*SPACES]
    for each, name in zip(packed, SPACES, strict=True):
        source = run[1] / "checkpoints" / f"{name}-seed1"
        assert each.folder == run[1] / "shipped/points" / name
        assert _weights(each.folder) < 0.3 * _weights(source)
        model, before = WorldModel.load(each.folder), WorldModel.load(source)
        assert (model.seen, model.config, model.data) == (before.seen, before.config, before.data)
        assert model.space.spec == before.space.spec


def _weights(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


@pytest.mark.slow
def test_a_card_says_what_the_run_does(packed: list[Packed], run: tuple[StudyConfig, Path]) -> None:
    verdict, record = Verdict.load(run[1] / "verdict.json"), RunRecord.load(run[1])
    for each, space in zip(packed, record.spaces, strict=True):
        card = Card.load(each.folder)
        assert card == each.card
        assert (card.command, card.collection, card.seed, card.trainings) == ("rslwm compare points", "points", 1, 2)
        assert card.data == record.data
        assert {"uri", "fingerprint", "episodes"} <= card.data.keys()
        assert card.costs == space.cost
        assert card.files == sums(each.folder)
        bars = {m.info.name: bar for m in verdict.metrics for bar in m.bars if bar.latent == card.name}
        assert {name: (m.value, m.low, m.high) for name, m in card.metrics.items()} == {
            name: (bar.value, bar.low, bar.high) for name, bar in bars.items()
        }
        assert card.metrics["psnr"].here == bars["psnr"].trainings[1]
        assert {*card.scores} == {*verdict.axes}


@pytest.mark.slow
@pytest.mark.usefixtures("by_name", "in_this_process")
def test_a_name_is_enough_to_measure_again_what_the_card_says(packed: list[Packed], tmp_path: Path) -> None:
    for each in packed:
        told, found = each.card.check, check(f"{each.card.name}@points", tmp_path, episodes=8)
        assert told is not None
        assert (told.clips, told.rollout, told.copied, told.decoded) == pytest.approx(tuple(found), abs=1e-3)
        assert abs(told.rollout - told.rollout_before) < TOLERANCE
        assert abs(told.decoded - told.decoded_before) < TOLERANCE


@pytest.mark.slow
@pytest.mark.usefixtures("by_name")
def test_a_study_takes_it_by_name_and_says_so(run: tuple[StudyConfig, Path], tmp_path: Path) -> None:
    shutil.copytree(run[1] / "stages", tmp_path / "stages")
    init = replace(run[0].world_model, init="small-vae@points")
    latents = ("small-vae@points", "other=small-vae")
    compare(replace(run[0], latents=latents, seeds=1, world_model=init), tmp_path, jobs=1, executor=HERE)
    record = RunRecord.load(tmp_path)
    assert [(space.name, space.taken) for space in record.spaces] == [("small-vae", "small-vae@points"), ("other", "")]
    card, taken = Card.load(located("small-vae@points")), record.spaces[0]
    for cost in ("encoder_parameters", "encoder_training_flops", "encoder_frames_seen"):
        assert taken.cost[cost] == card.costs[cost] > 0
    (note,) = (note for note in record.notes if "taken as they are" in note)
    assert "trained before, on 8 episodes of sim:tabletop" in note
    assert note.endswith(": small-vae@points.")
    spaces = [WorldModel.load(tmp_path / "checkpoints" / name).space for name in ("small-vae", "other")]
    assert LatentSpace.load("small-vae@points").normaliser.mean.equal(spaces[0].normaliser.mean)
    assert not spaces[0].normaliser.mean.equal(spaces[1].normaliser.mean)


@pytest.mark.slow
def test_what_is_not_known_of_a_folder_s_training_is_left_out(run: tuple[StudyConfig, Path], tmp_path: Path) -> None:
    shutil.copytree(run[1] / "stages", tmp_path / "stages")
    folder = run[1] / "checkpoints/small-vae-seed0"
    compare(replace(run[0], latents=(f"mine={folder}",), seeds=1), tmp_path, jobs=1, executor=HERE)
    (space,) = RunRecord.load(tmp_path).spaces
    assert space.cost["encoder_parameters"] > 0
    assert not {"encoder_training_flops", "encoder_frames_seen"} & space.cost.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"collection": "1st"}, "--as '1st': a collection begins with a letter"),
        ({"collection": "../up"}, "--as '../up'"),
        ({"seed": 2}, r"--seed 2: .* trained every space 2 time\(s\); the first is 0"),
    ],
)
def test_what_can_t_be_packed_is_refused(
    change: dict, message: str, run: tuple[StudyConfig, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        list(ship(run[1], **{"collection": "points", "out": tmp_path, **change}))
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_several_sizes_are_refused(run: tuple[StudyConfig, Path], tmp_path: Path) -> None:
    for name in ("verdict.json", "study.json"):
        shutil.copy(run[1] / name, tmp_path / name)
    dump(replace(run[0], sizes=("S",)), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"config\.yaml: sizes is S; only runs without sizes are packed"):
        list(ship(tmp_path, "points", tmp_path / "out"))


@pytest.mark.slow
def test_what_does_not_say_what_it_has_seen_is_refused(run: tuple[StudyConfig, Path], tmp_path: Path) -> None:
    for name in ("verdict.json", "study.json", "config.yaml"):
        shutil.copy(run[1] / name, tmp_path / name)
    shutil.copytree(run[1] / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints/small-vae-seed0/episodes.json").unlink()
    with pytest.raises(DataError, match="small-vae-seed0 doesn't say which episodes it was trained on"):
        list(ship(tmp_path, "points", tmp_path / "out"))


# ------------------------------------------------------------------------------------------- what the package ships


def test_what_the_package_ships_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < LARGEST


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The episodes that shipped world models are checked on."""
    return tmp_path_factory.mktemp("recorded")


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", names())
def test_what_is_shipped_measures_what_its_card_says(name: str, recorded: Path) -> None:
    card = Card.load(located(name))
    assert card.check is not None
    assert f"{card.name}@{card.collection}" == name
    assert "/" not in json.dumps([card.data, card.command]).replace("runs/", "")  # no paths of a machine
    found = check(name, recorded, card.check.episodes)
    assert found.clips == card.check.clips
    for value, told in (
        ("rollout", card.check.rollout),
        ("copied", card.check.copied),
        ("decoded", card.check.decoded),
    ):
        assert abs(getattr(found, value) - told) < TOLERANCE
