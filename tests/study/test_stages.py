"""The whole road from episodes to rows, on the point world, stage by stage in this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.base import metric_infos
from rslwm.evals.config import EvalConfig
from rslwm.evals.probe import ProbeConfig
from rslwm.evals.rows import Rows
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace
from rslwm.latents.store import to_float
from rslwm.model.dit import DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.plan.base import PlanConfig
from rslwm.run.stage import Stage, Workspace, closure
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Builder, Study
from rslwm.study.stages import read_facts

OPTIM = OptimConfig(steps=3, batch_size=8, warmup=1)
Run = tuple[Study, dict[Stage, Path]]


def run(study: Study, root: Path) -> dict[Stage, Path]:
    folders: dict[Stage, Path] = {}
    for stage in closure(study.targets):
        folders[stage] = root / f"{stage.kind}-{stage.key}"
        folders[stage].mkdir(parents=True)
        stage.run(Workspace(stage.config, [folders[s] for s in stage.inputs], folders[stage]))
    return folders


def tiny(corpus: Corpus, *latents: str) -> StudyConfig:
    return StudyConfig(
        latents=latents,
        data=corpus.config,
        encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4, min_rank=1.0, optim=OPTIM),
        adapter=AdapterConfig(heads=2, optim=OPTIM),
        decoder=DecoderConfig(width=16, optim=OPTIM),
        world_model=WorldModelConfig(
            dit=DiTConfig(width=24, depth=1, heads=2, max_frames=3), optim=replace(OPTIM, ema=0.9)
        ),
        evaluation=EvalConfig(
            clips=3,
            future=2,
            sampling=SamplingConfig(steps=2),
            encoder_windows=6,
            one_step_windows=6,
            plan=PlanConfig(candidates=4, iterations=1, elites=2, windows=2),
            probe=ProbeConfig(width=8, horizons=(1,), success_frames=7, optim=OPTIM),
        ),
        compute=ComputeConfig(device="cpu", dtype="float32"),
    )


@pytest.fixture(scope="module")
def finished(corpus: Corpus, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A user's own frozen encoder, one with an adapter, and one with a teacher."""
    study = Builder(tiny(corpus, f"own={plugin}:PatchMean", "small-siglip+4", "small-vavae")).build()
    return study, run(study, tmp_path_factory.mktemp("run"))


def test_every_space_has_every_metric_or_a_reason(finished: Run) -> None:
    study, folders = finished
    for space in study.spaces:
        rows = Rows.load(folders[space.rows] / "rows.parquet")
        unavailable = {entry["metric"] for entry in read_facts(folders[space.rows])["unavailable"]}
        stored = rows.distinct("metric")
        assert set(stored) <= {info.source for info in metric_infos().values()}
        measured = {name for name, info in metric_infos().items() if info.source in stored}
        assert not measured & unavailable
        assert measured | unavailable | {"cem_rotation_error"} == set(metric_infos())  # the point can't turn
        assert rows.distinct("latent") == (space.entry.name,)


def test_all_spaces_are_measured_on_the_same_windows(finished: Run) -> None:
    study, folders = finished

    def windows(stage: Stage) -> set[tuple[str, str, int, int]]:
        rows = Rows.load(folders[stage] / "rows.parquet")
        return set(zip(*(rows[name].tolist() for name in ("metric", "unit", "window", "k")), strict=True))

    first, *others = [windows(space.rows) for space in study.spaces]
    assert all(other == first for other in others)


@torch.no_grad()
def test_stored_latents_are_what_the_finished_space_encodes(finished: Run, corpus: Corpus) -> None:
    study, folders = finished
    for space in study.spaces:
        store = TensorStore(folders[space.latents] / "store")
        model = WorldModel.load(folders[space.world_model] / "checkpoint")
        assert store.keys == corpus.dataset.ids
        for key in store.keys[:2]:
            encoded = model.encode(to_float(corpus.frames[key])[None])[0]
            torch.testing.assert_close(store[key].float(), encoded, rtol=0.02, atol=0.02)


def test_stored_latents_are_normalised_over_the_training_episodes(finished: Run, corpus: Corpus) -> None:
    study, folders = finished
    for space in study.spaces:
        store = TensorStore(folders[space.latents] / "store")
        train = torch.cat([store[corpus.dataset.ids[e]].float().flatten(0, -2) for e in corpus.train])
        torch.testing.assert_close(train.mean(0), torch.zeros(train.shape[1]), rtol=0, atol=0.02)
        torch.testing.assert_close(train.std(0), torch.ones(train.shape[1]), rtol=0.02, atol=0)


def test_a_frozen_encoder_costs_no_training(finished: Run) -> None:
    study, folders = finished
    own, adapted, aligned = (read_facts(folders[space.encoder]) for space in study.spaces)
    assert "training_flops" not in own
    assert adapted["frames_seen"] == aligned["frames_seen"] == 3 * 8
    assert adapted["training_flops"] > 0


def test_the_decoder_completes_the_space_and_changes_nothing_else(finished: Run) -> None:
    study, folders = finished
    for space in study.spaces:
        bare = load_file(folders[space.latents] / "space/space.safetensors")
        complete = LatentSpace.load(folders[space.decoder] / "space")
        assert complete.pixels is not None
        assert all(torch.equal(value, complete.state_dict()[name]) for name, value in bare.items())


def test_kept_clips_begin_with_the_true_context(finished: Run) -> None:
    study, folders = finished
    clips = load_file(folders[study.spaces[0].rows] / "clips.safetensors")
    assert clips["frames"].shape == clips["truth"].shape == (3, 4, 32, 32, 3)
    assert torch.equal(clips["frames"][:, :2], clips["truth"][:, :2])


def test_the_same_study_gives_the_same_rows(finished: Run, tmp_path: Path, corpus: Corpus, plugin: Path) -> None:
    study, folders = finished
    again = Builder(tiny(corpus, f"own={plugin}:PatchMean")).build()
    repeated = run(again, tmp_path)
    before = Rows.load(folders[study.spaces[0].rows] / "rows.parquet")
    after = Rows.load(repeated[again.spaces[0].rows] / "rows.parquet")
    for name in ("metric", "unit", "value", "target"):
        assert before[name].astype(str).tolist() == after[name].astype(str).tolist()


def test_what_is_too_wide_to_store_is_made_when_it_is_read(
    finished: Run, tmp_path: Path, corpus: Corpus, plugin: Path
) -> None:
    names = (f"own={plugin}:PatchMean", "small-siglip+4", "small-vavae")
    study = Builder(replace(tiny(corpus, *names), stream_above_kb=0.05)).build()
    folders = run(study, tmp_path)
    stored = {shard.parent.name for shard in tmp_path.rglob("shard-*.safetensors")}
    assert stored == {folders[study.frames].name}
    for ours, theirs in zip(study.spaces, finished[0].spaces, strict=True):
        before, after = (
            Rows.load(folder / "rows.parquet") for folder in (folders[ours.rows], finished[1][theirs.rows])
        )
        assert before["metric"].tolist() == after["metric"].tolist()
        for stage, other in ((ours.world_model, theirs.world_model), (ours.encoder, theirs.encoder)):
            costs = read_facts(folders[stage]), read_facts(finished[1][other])
            assert costs[0].get("training_flops") == costs[1].get("training_flops")
        np.testing.assert_allclose(before["value"], after["value"], rtol=0.05, atol=0.02)


def test_only_spaces_above_the_limit_are_streamed(corpus: Corpus) -> None:
    """Native features of 16 channels take 512 bytes a frame on a 4 x 4 grid, four channels take 128."""
    space = Builder(replace(tiny(corpus, "small-siglip+4"), stream_above_kb=0.25)).build().spaces[0]
    (features,) = (stage for stage in space.latents.inputs if stage.kind == "features")
    assert (features.config.streamed, space.latents.config.streamed) == (True, False)
    everything = Builder(tiny(corpus, "small-siglip+4")).build().spaces[0]
    assert everything.encoder.key == space.encoder.key  # encoders need not be trained again
