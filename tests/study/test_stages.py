"""The whole road from episodes to rows, on the point world, stage by stage in this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rslwm.data.corpus import Corpus
from rslwm.latents.space import LatentSpace
from rslwm.latents.views import to_float
from rslwm.run.stage import Workspace
from rslwm.study.graph import Study
from rslwm.study.stages.base import FramesStage
from rslwm.study.stages.decoder import DecoderStage
from rslwm.study.stages.encoder import EncoderStage, FeaturesStage
from rslwm.study.stages.latents import SPACE, LatentsStage, SpaceStage
from rslwm.study.stages.metric import CLIPS, RolloutsStage
from rslwm.study.stages.world_model import WorldModelStage
from rslwm.study.subjects import Variant
from studies import rows_of, run, tiny

Run = tuple[Study, Workspace]


@pytest.fixture(scope="module")
def finished(corpus: Corpus, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A user's own frozen encoder, one with an adapter, and one with a teacher."""
    study = Study(tiny(corpus, f"own={plugin}:PatchMean", "small-siglip+4", "small-vavae"))
    return study, run(study.targets, tmp_path_factory.mktemp("run"))


def test_every_space_has_every_metric_or_a_reason(finished: Run) -> None:
    study, work = finished
    for variant in study.variants:
        rows = rows_of(variant, work)
        facts = [work.facts(stage)["unavailable"] for stage in variant.metrics.values()]
        unavailable = {entry["metric"] for entries in facts for entry in entries}
        stored = rows.distinct("metric")
        assert set(stored) <= {info.source for info in study.infos.values()}
        measured = {name for name, info in study.infos.items() if info.source in stored}
        assert not measured & unavailable
        assert measured | unavailable | {"cem_rotation_error"} == set(study.infos)  # the point can't turn
        assert rows.distinct("latent") == (variant.entry.name,)


def test_all_spaces_are_measured_on_the_same_windows(finished: Run) -> None:
    study, work = finished

    def windows(variant: Variant) -> set[tuple[str, str, int, int]]:
        rows = rows_of(variant, work)
        return set(zip(*(rows[name].tolist() for name in ("metric", "unit", "window", "k")), strict=True))

    first, *others = map(windows, study.variants)
    assert all(other == first for other in others)


@torch.no_grad()
def test_stored_latents_are_what_the_finished_space_encodes(finished: Run, corpus: Corpus) -> None:
    study, work = finished
    for variant in study.variants:
        store, model = work.open(variant.pull(LatentsStage)), work.open(variant.pull(WorldModelStage))
        assert store.keys == corpus.dataset.ids
        for key in store.keys[:2]:
            encoded = model.encode(to_float(corpus.frames[key])[None])[0]
            torch.testing.assert_close(store[key].float(), encoded, rtol=0.02, atol=0.02)


def test_stored_latents_are_normalised_over_the_training_episodes(finished: Run, corpus: Corpus) -> None:
    study, work = finished
    for variant in study.variants:
        store = work.open(variant.pull(LatentsStage))
        train = torch.cat([store[corpus.dataset.ids[e]].float().flatten(0, -2) for e in corpus.train])
        torch.testing.assert_close(train.mean(0), torch.zeros(train.shape[1]), rtol=0, atol=0.02)
        torch.testing.assert_close(train.std(0), torch.ones(train.shape[1]), rtol=0.02, atol=0)


def test_a_frozen_encoder_costs_no_training(finished: Run) -> None:
    study, work = finished
    own, adapted, aligned = (work.facts(variant.pull(EncoderStage)) for variant in study.variants)
    assert "training_flops" not in own
    assert adapted["frames_seen"] == aligned["frames_seen"] == 3 * 8
    assert adapted["training_flops"] > 0


def test_the_decoder_completes_the_space_and_changes_nothing_else(finished: Run) -> None:
    study, work = finished
    for variant in study.variants:
        bare = load_file(work.folder(variant.pull(SpaceStage)) / SPACE / "space.safetensors")
        complete = LatentSpace.load(work.folder(variant.pull(DecoderStage)) / SPACE)
        assert complete.pixels is not None
        assert all(torch.equal(value, complete.state_dict()[name]) for name, value in bare.items())


def test_kept_clips_begin_with_the_true_context(finished: Run) -> None:
    study, work = finished
    clips = load_file(work.folder(study.variants[0].pull(RolloutsStage)) / CLIPS)
    assert clips["frames"].shape == clips["truth"].shape == (3, 4, 32, 32, 3)
    assert torch.equal(clips["frames"][:, :2], clips["truth"][:, :2])


def test_the_same_study_gives_the_same_rows(finished: Run, tmp_path: Path, corpus: Corpus, plugin: Path) -> None:
    study, work = finished
    (again,) = Study(tiny(corpus, f"own={plugin}:PatchMean")).variants
    before, after = rows_of(study.variants[0], work), rows_of(again, run(again.targets, tmp_path))
    for name in ("metric", "unit", "value", "target"):
        assert before[name].astype(str).tolist() == after[name].astype(str).tolist()


def test_what_is_too_wide_to_store_is_made_when_it_is_read(
    finished: Run, tmp_path: Path, corpus: Corpus, plugin: Path
) -> None:
    names = (f"own={plugin}:PatchMean", "small-siglip+4", "small-vavae")
    study = Study(replace(tiny(corpus, *names), stream_above_kb=0.05))
    work = run(study.targets, tmp_path)
    stored = {shard.parent for shard in tmp_path.rglob("shard-*.safetensors")}
    assert stored == {work.folder(study.variants[0].pull(FramesStage))}
    for ours, theirs in zip(study.variants, finished[0].variants, strict=True):
        before, after = rows_of(theirs, finished[1]), rows_of(ours, work)
        assert before["metric"].tolist() == after["metric"].tolist()
        for stage in (WorldModelStage, EncoderStage):
            costs = work.facts(ours.pull(stage)), finished[1].facts(theirs.pull(stage))
            assert costs[0].get("training_flops") == costs[1].get("training_flops")
        np.testing.assert_allclose(before["value"], after["value"], rtol=0.05, atol=0.02)


def test_only_spaces_above_the_limit_are_streamed(corpus: Corpus) -> None:
    """Native features of 16 channels take 512 bytes a frame on a 4 x 4 grid, four channels take 128."""
    (variant,) = Study(replace(tiny(corpus, "small-siglip+4"), stream_above_kb=0.25)).variants
    assert (variant.pull(FeaturesStage).streamed, variant.pull(LatentsStage).streamed) == (True, False)
    (everything,) = Study(tiny(corpus, "small-siglip+4")).variants
    assert everything.pull(EncoderStage) == variant.pull(EncoderStage)  # encoders need not be trained again
