"""Every kind of adapter goes through the same stages and ends in the same place."""

from pathlib import Path

import pytest
import torch

from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import EncoderConfig
from rslwm.latents.space import LatentSpace
from rslwm.optim import OptimConfig
from rslwm.run.stage import Stage, Workspace, closure
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Builder
from rslwm.study.stages import read_facts

KINDS = ["svae", "mlp", "pca"]


def make(kind: str, corpus: Corpus, plugin: Path, root: Path) -> dict[str, Path]:
    """Folders of the stages up to the latents, by kind; the native space has three channels, the compressed one two."""
    config = StudyConfig(
        latents=(f"own={plugin}:PatchMean+2",),
        data=corpus.config,
        encoder=EncoderConfig(min_rank=1.0),
        adapter=AdapterConfig(kind=kind, heads=3, optim=OptimConfig(steps=2, batch_size=8)),  # type: ignore[arg-type]
        compute=ComputeConfig(device="cpu", dtype="float32"),
    )
    (space,) = Builder(config).build().spaces
    folders: dict[Stage, Path] = {}
    for stage in closure([space.latents]):
        folders[stage] = root / stage.key
        folders[stage].mkdir(parents=True)
        stage.run(Workspace(stage.config, [folders[s] for s in stage.inputs], folders[stage]))
    return {stage.kind: folder for stage, folder in folders.items()}


@pytest.fixture(scope="module")
def made(corpus: Corpus, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    return {kind: make(kind, corpus, plugin, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_latents_are_those_of_the_stages_adapter(kind: str, made: dict[str, dict[str, Path]]) -> None:
    folders = made[kind]
    space = LatentSpace.load(folders["latents"] / "space")
    assert space.adapter is not None
    assert space.config.adapter.kind == kind
    native, latents = TensorStore(folders["features"] / "store"), TensorStore(folders["latents"] / "store")
    for key in latents.keys[:2]:
        expected = space.normaliser(space.adapter.encode(native[key].float()[None]))[0]
        torch.testing.assert_close(latents[key].float(), expected, rtol=0.02, atol=0.02)


@torch.no_grad()
def test_the_stage_says_what_its_principal_components_lose(made: dict[str, dict[str, Path]], corpus: Corpus) -> None:
    """Which is less than an MLP loses that is hardly trained."""
    errors = {}
    for kind in ("mlp", "pca"):
        adapter = LatentSpace.load(made[kind]["latents"] / "space").adapter
        store = TensorStore(made[kind]["features"] / "store")
        native = torch.cat([store[corpus.dataset.ids[e]] for e in corpus.train])[None].float()
        assert adapter is not None
        errors[kind] = float((adapter.decode(adapter.encode(native)) - native).square().mean())
    assert errors["pca"] < errors["mlp"]
    assert read_facts(made["pca"]["adapter"])["terms"]["mse"] == pytest.approx(errors["pca"], rel=1e-3)
