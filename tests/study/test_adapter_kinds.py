"""Every kind of adapter goes through the same stages and ends in the same place."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rslwm.data.corpus import Corpus
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.run.stage import Workspace
from rslwm.study.graph import Study
from rslwm.study.stages.encoder import FeaturesStage
from rslwm.study.stages.latents import AdapterStage, LatentsStage, SpaceStage
from rslwm.study.subjects import Variant
from studies import OPTIM, run, tiny

KINDS = ["svae", "mlp", "pca"]


Made = tuple[Variant, Workspace]


@pytest.fixture(scope="module")
def made(corpus: Corpus, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """The stages up to the latents, by kind; the native space has three channels, the compressed one two."""
    config, root = tiny(corpus, f"own={plugin}:PatchMean+2"), tmp_path_factory.mktemp("run")
    found = {}
    for kind in KINDS:
        adapter = AdapterConfig(kind=kind, heads=3, optim=OPTIM)  # type: ignore[arg-type]
        (variant,) = Study(replace(config, adapter=adapter)).variants
        found[kind] = variant, run([variant.pull(LatentsStage)], root)
    return found


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_latents_are_those_of_the_stages_adapter(kind: str, made: dict[str, Made]) -> None:
    variant, work = made[kind]
    space = work.open(variant.pull(SpaceStage))
    assert space.adapter is not None
    assert space.config.adapter.kind == kind
    native, latents = work.open(variant.pull(FeaturesStage)), work.open(variant.pull(LatentsStage))
    for key in latents.keys[:2]:
        expected = space.normaliser(space.adapter.encode(native[key].float()[None]))[0]
        torch.testing.assert_close(latents[key].float(), expected, rtol=0.02, atol=0.02)


@torch.no_grad()
def test_the_stage_says_what_its_principal_components_lose(made: dict[str, Made], corpus: Corpus) -> None:
    """Which is less than an MLP loses that is hardly trained."""
    errors = {}
    for kind in ("mlp", "pca"):
        variant, work = made[kind]
        adapter, store = work.open(variant.pull(SpaceStage)).adapter, work.open(variant.pull(FeaturesStage))
        native = torch.cat([store[corpus.dataset.ids[e]] for e in corpus.train])[None].float()
        assert adapter is not None
        errors[kind] = float((adapter.decode(adapter.encode(native)) - native).square().mean())
    assert errors["pca"] < errors["mlp"]
    variant, work = made["pca"]
    assert work.facts(variant.pull(AdapterStage))["terms"]["mse"] == pytest.approx(errors["pca"], rel=1e-3)
