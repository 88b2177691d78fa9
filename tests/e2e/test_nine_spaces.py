"""The paper's nine latent spaces, end to end: offline, on tiny checkpoints in the layout of the published ones."""

import json
from importlib import import_module
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rslwm.evals.rows import Rows
from rslwm.run.stage import StageRecord
from rslwm.study.config import PRESETS
from rslwm.types import AXES
from terminal import Run, rslwm

NINE = PRESETS["bridge"].latents


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for module in ("sd3", "vavae", "cosmos", "vjepa", "webdino", "siglip2"):
        import_module(f"tiny_checkpoints.{module}").write(folder)
    return folder


@pytest.fixture(scope="module")
def nine(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Decoded as in the paper: by the autoencoders' own decoders, native features through the compressed ones'."""
    words = ["--latents", ",".join(NINE), "--encoder.weights", str(weights), "--trust"]
    words += ["--decoder.own", "--decoder.through", "96", "--metrics", "visual,planning,gripper_readout"]
    return rslwm("compare", "smoke", *words, out=tmp_path_factory.mktemp("nine") / "run")


def records(run: Run) -> list[tuple[StageRecord, Path]]:
    return [(StageRecord.read(path.parent), path.parent) for path in run.folder.glob("stages/*/stage.json")]


def test_all_nine_are_measured_on_every_axis(nine: Run):
    rows = Rows.load(nine.folder / "rows.parquet")
    assert set(zip(rows["latent"], rows["axis"], strict=True)) == {(latent, axis) for latent in NINE for axis in AXES}
    assert (nine.folder / "report/index.html").is_file()


def test_no_published_encoder_is_trained(nine: Run):
    trained = {record.kind: 0 for record, _ in records(nine)}
    for record, folder in records(nine):
        trained[record.kind] += (folder / "train.jsonl").is_file()
    assert {kind: count for kind, count in trained.items() if count} == {
        "adapter": 3,
        "decoder": 3,
        "world-model": 9,
        "probe": 9,
    }


def test_nobodys_weights_are_copied(nine: Run):
    for record, folder in records(nine):
        if record.kind == "encoder":
            assert load_file(folder / "encoder.safetensors") == {}


def test_rows_say_which_weights_they_are_of(nine: Run):
    spaces = json.loads((nine.folder / "study.json").read_text())["spaces"]
    revisions = {space["name"]: space["spec"]["revision"] for space in spaces}
    assert all(revision.startswith("files-") for revision in revisions.values())
    assert revisions["siglip2"] == revisions["siglip2+96"] != revisions["web-dino"]


def test_its_own_configuration_repeats_nothing(nine: Run):
    assert rslwm("compare", str(nine.folder / "config.yaml"), out=nine.folder).made == []
