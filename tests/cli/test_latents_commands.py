"""rslwm latents list, check, train and encode, from the command line."""

import json
import re
import sys
from pathlib import Path

import pytest

from foreign import Foreign
from rslwm import shipping
from rslwm.cli.compare import TrainSpaces
from rslwm.cli.flags import parse
from rslwm.cli.latents import EncoderCommand
from rslwm.cli.main import FAILED, main
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.latents.base import ENCODERS
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.shipping import Card, sums
from rslwm.study.config import PRESETS
from rslwm.types import end_effector_spec
from tiny_checkpoints import sd3

WIDTH = 120


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    sd3.write(folder)
    return folder


@pytest.mark.slow
def test_list_names_every_encoder_in_one_line_each(capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    assert main(["latents", "list"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert all(len(line) <= WIDTH for line in lines)
    rows = {line.split()[0]: line for line in lines if line and line.split()[0] in ENCODERS}
    assert [*rows] == [*ENCODERS]
    assert re.search(r"reconstruction +8x8x16 +1\.0 M +0\.1 +2,048 +trained", rows["small-vae"])
    assert re.search(r"semantic +16x16x1024 +304\.7 M +161\.5 +524,288", rows["vjepa2.1"])
    assert re.search(r"reconstruction +32x32x16 +34\.3 M +272\.9 +32,768 +missing", rows["sd3-vae"])
    assert " none " in rows["raw-pixels"]
    assert " here " in rows["effnet-lite0"]


def test_list_says_all_about_one(capsys):
    assert main(["latents", "list", "sd3-vae[shift=no]"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "shift False" in printed
    assert "sd3-vae[weights=, filter=bicubic, antialias=True, dtype=bfloat16, posterior=mode, shift=False]" in printed
    assert "hf download stabilityai/stable-diffusion-3-medium-diffusers vae/" in printed


def test_list_leaves_out_what_only_an_absent_library_could_count(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert main(["latents", "list", "va-vae"]) == 0
    assert re.search(r"16x16x32 +28\.4 M +\? +16,384 +missing", capsys.readouterr().out)


def test_list_shows_what_the_weights_are(weights, capsys):
    assert main(["latents", "list", "sd3-vae", "--encoder.weights", str(weights)]) == 0
    printed = capsys.readouterr().out
    assert " here " in printed
    assert "files-" in printed
    assert "32x32x4" in printed


def test_a_sound_plugin_passes(plugin, capsys):
    assert main(["latents", "check", f"{plugin}:PatchMean"]) == 0
    printed = capsys.readouterr().out
    assert "no findings in patch-mean: frozen, floor, 64 px -> 8x8x3" in printed
    assert re.search(r"effective rank +[\d.]+ of 3", printed)
    assert "no decoder of its own" in printed


def test_a_wrong_plugin_fails(plugin, capsys):
    assert main(["latents", "check", f"{plugin}:WrongGrid"]) == 1
    printed = capsys.readouterr().out
    assert "wrong: frozen, floor, 64 px -> 5x5x3" in printed
    assert "1 errors" in printed


@pytest.mark.parametrize("below", ["", "sd3-vae", "sd3-vae/vae/diffusion_pytorch_model.safetensors"])
def test_weights_are_a_file_its_folder_or_the_folder_above(below, weights, corpus: Corpus, capsys):
    asked = ["latents", "check", "sd3-vae[posterior=sample]", "--weights", str(weights / below)]
    assert main([*asked, "--encoder.input-size", "64", "--data", corpus.config.uri, "--frames", "8"]) == 0
    printed = capsys.readouterr().out
    assert "no findings in sd3-vae" in printed
    assert re.search(r"encode and decode +[\d.]+ dB PSNR", printed)
    assert re.search(r"record: posterior +sample", printed)


def test_missing_weights_say_how_to_get_them(tmp_path, capsys):
    assert main(["latents", "check", "vjepa2.1", "--weights", str(tmp_path / "vjepa.pt")]) == FAILED
    assert "https://dl.fbaipublicfiles.com/vjepa2/vjepa2_1_vitl_dist_vitG_384.pt" in capsys.readouterr().err


def test_published_encoders_are_shown_frames_of_their_own_size(plugin):
    assert EncoderCommand("sd3-vae").study().data.image_size == 256
    assert EncoderCommand(f"{plugin}:PatchMean").study().data.image_size == 64
    assert EncoderCommand("sd3-vae", image_size=96).study().data.image_size == 96


def test_spaces_are_trained_by_name_as_the_demo_trains_them(tmp_path):
    words = ["sd3-vae[shift=no,posterior=sample],web-dino+96", "--data", "lerobot:x", "--out", "demo"]
    parsed = parse(TrainSpaces, "rslwm latents train", words)
    assert parsed.config.latents == ("sd3-vae[shift=no,posterior=sample]", "web-dino+96")
    assert parsed.config.data.uri == "lerobot:x"
    assert parsed.config.adapter == PRESETS["demo"].adapter


def test_a_preset_and_its_spaces_can_be_named_too():
    parsed = parse(TrainSpaces, "rslwm latents train", ["smoke", "--latents", "small-vae"])
    assert parsed.config.latents == ("small-vae",)
    assert parsed.config.decoder == PRESETS["smoke"].decoder


@pytest.mark.usefixtures("in_this_process")
def test_a_frozen_encoder_encodes_a_data_set_by_its_name(plugin, corpus: Corpus, tmp_path, capsys):
    asked = ["latents", "encode", f"{plugin}:PatchMean", "--data", corpus.config.uri, "--image-size", "32"]
    assert main([*asked, "--out", str(tmp_path), "--to", f"file://{tmp_path}/there"]) == 0
    printed = capsys.readouterr().out
    copy = TensorStore(f"file://{tmp_path}/there/latents")
    frames = int(corpus.dataset.lengths.sum())
    assert f"12 episodes, {frames} frames of 4x4x3: " in printed
    store, space = TensorStore(tmp_path / "latents"), LatentSpace.load(tmp_path / "space")
    assert store.meta["parameters"] == space.spec.parameters
    assert store.shape(corpus.dataset.ids[0]) == (corpus.dataset.lengths[0], 4, 4, 3)
    assert all(copy[key].equal(store[key]) for key in store.keys)
    again = ["latents", "encode", str(tmp_path / "space"), "--data", corpus.config.uri, "--out", str(tmp_path / "2")]
    assert main(again) == 0
    assert all(TensorStore(tmp_path / "2/latents")[key].equal(store[key]) for key in store.keys)


@pytest.mark.usefixtures("in_this_process")
def test_data_of_other_names_are_taken_as_the_flags_say(plugin, tmp_path, capsys):
    front, action = "observation.images.front", {"dtype": "float32", "shape": [7], "names": None}
    root = Foreign(cameras=("image",), features={"action": action}).write(tmp_path / "set")
    spec = end_effector_spec(1, 1).to_dict() | {"low": [-9.0] * 7, "high": [9.0] * 7}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    data = ["--data", f"lerobot:{root}", "--data.features", f"{front}=image", "--camera", "front"]
    data += ["--data.action-spec", str(tmp_path / "spec.json")]
    assert main(["latents", "check", f"{plugin}:PatchMean", "--frames", "6", *data]) == 0
    words = ["latents", "encode", f"{plugin}:PatchMean", "--out", str(tmp_path / "out"), *data]
    assert main(words) == 0
    assert TensorStore(tmp_path / "out/latents").keys
    capsys.readouterr()


@pytest.mark.usefixtures("in_this_process")
def test_a_shipped_space_is_listed_checked_and_encodes_by_name(plugin, corpus: Corpus, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "shipped/points/mine"
    LatentSpace(SpaceConfig(f"{plugin}:PatchMean", 32)).save(folder / "space")
    Card("mine", "points", "", {}, 0, {}, 1, {}, {}, {}, sums(folder)).save(folder)
    monkeypatch.setattr(shipping, "SHIPPED", tmp_path / "shipped")
    assert main(["latents", "check", "mine@points", "--data", corpus.config.uri, "--frames", "6"]) == 0
    assert "frozen, floor, 32 px -> 4x4x3" in capsys.readouterr().out
    for number, name in enumerate(("mine@points", str(folder))):
        words = ["latents", "encode", name, "--data", corpus.config.uri, "--out", str(tmp_path / f"out{number}")]
        assert main(words) == 0
    one, two = (TensorStore(tmp_path / f"out{number}/latents") for number in (0, 1))
    assert all(one[key].equal(two[key]) for key in one.keys)


def test_a_folder_without_a_space_is_named(tmp_path, capsys):
    assert main(["latents", "encode", str(tmp_path), "--data", "lerobot:x", "--out", str(tmp_path)]) == FAILED
    assert f"{tmp_path / 'space.yaml'} does not exist" in capsys.readouterr().err


def test_a_space_of_two_views_wants_two_cameras(plugin, tmp_path, capsys):
    LatentSpace(SpaceConfig(f"{plugin}:PatchMean", 64, views=2)).save(tmp_path / "space")
    asked = ["latents", "encode", str(tmp_path / "space"), "--data", "lerobot:nowhere", "--out", str(tmp_path / "out")]
    assert main([*asked, "--camera", "front"]) == FAILED
    assert "'front' is 1 camera(s)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
