"""A study on a space that was trained before: nothing of it is trained again, and nothing leaks."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import point_world
from rslwm.compute import autocast
from rslwm.data.corpus import Corpus, SeenEpisodes
from rslwm.data.lerobot import write_lerobot
from rslwm.latents.space import LatentSpace
from rslwm.model.world_model import WorldModel
from rslwm.run.stage import closure
from rslwm.study.config import StudyConfig
from rslwm.study.estimate import frame_costs
from rslwm.study.graph import Study
from rslwm.study.stages.base import DataStage, FramesStage, Sizes
from rslwm.study.stages.decoder import DecoderStage
from rslwm.study.stages.latents import SPACE, LatentsStage
from rslwm.study.stages.taken import TakenSpaceStage
from rslwm.study.stages.world_model import CHECKPOINT, WorldModelStage
from rslwm.study.subjects import FromFolder, Variant
from rslwm.types import DataError
from studies import run, tiny

TRAINING = {"encoder", "features", "adapter", "space", "decoder"}


def first(config: StudyConfig) -> Variant:
    return Study(config).variants[0]


@pytest.fixture(scope="module")
def checkpoint(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world model of a compressed space, which an ordinary study has trained on the point world."""
    stage = first(tiny(corpus, "small-dino+4")).pull(WorldModelStage)
    return run([stage], tmp_path_factory.mktemp("trained")).folder(stage) / CHECKPOINT


def grown(corpus: Corpus, root: Path, more: int = 6) -> StudyConfig:
    """A study of a data set that also holds all episodes of the corpus, under the same ids."""
    ids = [*corpus.dataset.ids, *(f"new-{i}" for i in range(more))]
    episodes = (replace(point_world.episode(i, bool(i % 2)), id=name) for i, name in enumerate(ids))
    write_lerobot(episodes, root, point_world.SPEC, state_names=point_world.STATE_NAMES)
    return tiny(replace(corpus, config=replace(corpus.config, uri=f"lerobot:{root}")), "small-vae")


def test_nothing_of_it_is_trained(checkpoint: Path, corpus: Corpus) -> None:
    study = Study(replace(tiny(corpus, f"mine={checkpoint}"), seeds=2))
    kinds = [stage.kind for stage in closure(study.targets)]
    assert not TRAINING & {*kinds}
    assert (kinds.count("taken-space"), kinds.count("latents"), kinds.count("world-model")) == (1, 1, 2)
    assert all(isinstance(variant, FromFolder) for variant in study.variants)
    assert {variant.row.family for variant in study.variants} == {"semantic"}
    study.check(lambda stage: False)


def test_beside_it_a_space_keeps_its_keys(checkpoint: Path, corpus: Corpus) -> None:
    alone, beside = (Study(tiny(corpus, *names)) for names in (["small-vae"], ["small-vae", f"mine={checkpoint}"]))
    assert {*closure(alone.targets)} < {*closure(beside.targets)}


def test_latents_and_pixels_are_those_of_the_space(checkpoint: Path, corpus: Corpus, tmp_path: Path) -> None:
    variant = first(tiny(corpus, f"mine={checkpoint}"))
    latents, decoder = variant.pull(LatentsStage), variant.pull(DecoderStage)
    work, space = run([latents, decoder], tmp_path), LatentSpace.load(checkpoint)
    frames = corpus.frames[corpus.dataset.ids[0]][None]
    with torch.no_grad(), autocast(variant.study.compute):
        expected = space.encode(frames)
        assert torch.equal(work.open(latents)[corpus.dataset.ids[0]], expected[0].bfloat16())
        assert torch.equal(work.open(decoder).decode(expected), space.decode(expected))


def test_it_is_known_by_its_weights_wherever_it_lies(checkpoint: Path, corpus: Corpus, tmp_path: Path) -> None:
    def keys(folder: Path) -> set[str]:
        variant = first(tiny(corpus, f"mine={folder}"))
        return {stage.key for stage in closure(variant.targets)} - {
            stage.key for stage in closure([variant.pull(FramesStage)])
        }

    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    assert keys(copy) == keys(checkpoint)
    with (copy / "space/space.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    moved = keys(copy) - keys(checkpoint)
    kinds = {s.kind for s in closure(first(tiny(corpus, f"mine={copy}")).targets) if s.key in moved}
    assert kinds >= {"taken-space", "latents", "world-model", "rollouts", "probe", "metric"}


def test_it_costs_what_it_cost_where_it_was_trained(checkpoint: Path, corpus: Corpus) -> None:
    costs = [
        frame_costs(Study(tiny(corpus, text)))[name, ""]
        for text, name in (("small-dino+4", "small-dino+4"), (f"mine={checkpoint}", "mine"))
    ]
    assert costs[0] == costs[1]


def test_its_latents_are_encoded_from_frames(checkpoint: Path, corpus: Corpus) -> None:
    latents = first(tiny(corpus, f"mine={checkpoint}")).pull(LatentsStage)
    assert latents.demand(Sizes(100)).flops == 100 * (latents.fitted.encode_flops + latents.fitted.compress_flops)


# ------------------------------------------------------------------------------------------------------------- no leak


def test_a_space_that_has_seen_what_is_held_out_is_refused(checkpoint: Path, corpus: Corpus, tmp_path: Path) -> None:
    config = tiny(corpus, f"mine={checkpoint}")
    turned = replace(config, data=replace(config.data, split_seed=6))
    with pytest.raises(
        DataError, match=r"latents: .*checkpoint was trained on \d of the \d episodes that are held out"
    ):
        run([first(turned).pull(TakenSpaceStage)], tmp_path)


def test_a_part_of_its_data_under_the_same_split_is_held_out_where_it_was(corpus: Corpus, tmp_path: Path) -> None:
    larger = grown(corpus, tmp_path / "set")
    stage = first(larger).pull(DecoderStage)
    trained = run([stage], tmp_path / "larger")
    space = trained.folder(stage) / SPACE
    seen = SeenEpisodes.read(space)
    assert seen is not None
    assert seen.among(corpus) == set(corpus.train)

    variant = first(tiny(corpus, f"mine={space}"))
    model = variant.pull(WorldModelStage)
    work = run([model], tmp_path / "part")
    exported = WorldModel.load(work.folder(model) / CHECKPOINT)
    data = first(larger)
    whole = Corpus(trained.open(data.pull(DataStage)), trained.open(data.pull(FramesStage)), larger.data)
    assert exported.seen is not None
    assert exported.seen.among(whole) == set(whole.train)
    assert exported.seen.among(corpus) == set(corpus.train)


def test_a_space_that_does_not_say_what_it_has_seen_is_refused(
    checkpoint: Path, corpus: Corpus, tmp_path: Path
) -> None:
    silent = shutil.copytree(checkpoint / "space", tmp_path / "silent")
    with pytest.raises(DataError, match=r"silent doesn't say which episodes it was trained on .*episodes\.json"):
        run([first(tiny(corpus, f"{silent}")).pull(TakenSpaceStage)], tmp_path / "run")


def test_the_space_in_a_world_models_folder_is_told_of_beside_it(
    checkpoint: Path, corpus: Corpus, tmp_path: Path
) -> None:
    stage = first(tiny(corpus, f"mine={checkpoint / 'space'}")).pull(TakenSpaceStage)
    assert SeenEpisodes.read(run([stage], tmp_path).folder(stage) / SPACE) == SeenEpisodes.read(checkpoint)
