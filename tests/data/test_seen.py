"""A model's training episodes are known again wherever they turn up."""

from dataclasses import replace
from pathlib import Path

import pytest

import point_world
from rslwm.data.corpus import Corpus, SeenEpisodes, require_held_out, unseen
from rslwm.data.frames import build_frame_store
from rslwm.data.lerobot import write_lerobot
from rslwm.types import DataError

NUMBERS = range(12)


def another(root: Path, numbers: list[int], corpus: Corpus, name: str = "point-{:03d}") -> Corpus:
    """A data set of its own with these of the point world's episodes, under names after their places in it."""
    episodes = (replace(point_world.episode(i, bool(i % 2)), id=name.format(k)) for k, i in enumerate(numbers))
    dataset = write_lerobot(episodes, root / "set", point_world.SPEC, state_names=point_world.STATE_NAMES)
    frames = build_frame_store(dataset, "", point_world.SIZE, root / "frames")
    return Corpus(dataset, frames, corpus.config)


def test_on_its_own_data_a_model_has_not_seen_what_is_held_out(corpus: Corpus) -> None:
    assert unseen(corpus, SeenEpisodes.of(corpus), "", "it") == corpus.test


def test_a_grown_copy_holds_the_same_seen_episodes_and_new_ones(corpus: Corpus, tmp_path: Path) -> None:
    grown = another(tmp_path, [*NUMBERS, 20, 21], corpus)
    assert SeenEpisodes.of(corpus).among(grown) == set(corpus.train)


def test_episodes_are_known_under_other_ids(corpus: Corpus, tmp_path: Path) -> None:
    renamed = another(tmp_path, [*reversed(NUMBERS)], corpus, "episode-{:06d}")
    assert {11 - i for i in SeenEpisodes.of(corpus).among(renamed)} == set(corpus.train)


def test_another_robots_episodes_of_the_same_ids_are_new(corpus: Corpus, tmp_path: Path) -> None:
    other = another(tmp_path, [*range(30, 42)], corpus)
    assert other.dataset.ids == corpus.dataset.ids
    assert not SeenEpisodes.of(corpus).among(other)


def test_a_set_of_training_episodes_alone_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    subset = another(tmp_path, corpus.train[:4], corpus, "mine-{}")
    with pytest.raises(DataError, match=r"it was trained on all 4 episodes of .*set\. Give other data .*--seen"):
        unseen(subset, SeenEpisodes.of(corpus), "", "it")


def test_what_the_first_weights_were_trained_on_counts_too(corpus: Corpus) -> None:
    first = SeenEpisodes.of(corpus)
    turned = replace(corpus, config=replace(corpus.config, split_seed=8))
    assert SeenEpisodes.of(turned, first).among(turned) == {*turned.train, *corpus.train}


def test_what_a_part_saw_of_the_same_data_is_not_noted_twice(corpus: Corpus, tmp_path: Path) -> None:
    part = SeenEpisodes.of(corpus, SeenEpisodes("elsewhere", {"a": "key of a"}))
    assert SeenEpisodes.of(corpus, part, None) == part
    grown = another(tmp_path, [*NUMBERS, 20, 21], corpus)
    assert SeenEpisodes.of(corpus, SeenEpisodes.of(grown)).among(grown) == set(grown.train)


def test_a_part_that_has_seen_what_is_held_out_is_refused(corpus: Corpus) -> None:
    require_held_out(corpus, SeenEpisodes.of(corpus), "it", "")
    turned = replace(corpus, config=replace(corpus.config, split_seed=8))
    with pytest.raises(
        DataError, match=r"it was trained on \d of the \d episodes that are held out here, .* or go home"
    ):
        require_held_out(turned, SeenEpisodes.of(corpus), "it", "go home")


def test_a_checkpoint_folder_brings_them_along(corpus: Corpus, tmp_path: Path) -> None:
    seen = SeenEpisodes.of(corpus, SeenEpisodes("a", {"b": "c"}))
    seen.write(tmp_path)
    assert SeenEpisodes.read(tmp_path) == seen
    assert SeenEpisodes.read(tmp_path / "older") is None
    (tmp_path / "episodes.json").write_text("{}")
    with pytest.raises(DataError, match=r"episodes\.json is damaged: KeyError"):
        SeenEpisodes.read(tmp_path)
