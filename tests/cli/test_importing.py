"""`rslwm import semantic-wm` asks for what files can't tell, all at once, and writes a checkpoint."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rslwm.cli.main import FAILED, main
from rslwm.model.world_model import WorldModel

GOLDEN = Path(__file__).parents[1] / "golden"
SAID = {
    "--objective": "flow",
    "--heads": "2",
    "--temporal": "factorised",
    "--views": "1",
    "--encoder": "semantic:features",
    "--adapter-heads": "4",
    "--decoder-heads": "4",
}


def weights(name: str) -> dict[str, torch.Tensor]:
    found = load_file(GOLDEN / f"{name}.safetensors")
    return {k.removeprefix("weights."): v for k, v in found.items() if k.startswith("weights.")}


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A folder laid out as the released ones are."""
    folder = tmp_path / "released"
    folder.mkdir()
    torch.save({"ema": weights("dit_plain_p2")}, folder / "DiT-S_D8.pt")
    save_adapter(folder)
    return folder


def save_adapter(folder: Path, **settings: dict[str, object]) -> None:
    parts = {"adapter": weights("svae"), "pixel_decoder": weights("pixel_decoder")}
    torch.save(parts | settings, folder / "adapter_features_8.pt")


def run(folder: Path, said: dict[str, str], *more: str) -> int:
    flags = [word for pair in said.items() for word in pair]
    out = folder.parent / "out"
    return main(
        ["import", "semantic-wm", str(folder), "--out", str(out), "--image-size=16", "--grid=4,4", *flags, *more]
    )


def test_a_folder_becomes_a_checkpoint(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(released, SAID) == 0
    assert "a 64x2 on 8 channels, patch 2, plain head" in capsys.readouterr().out
    model = WorldModel.load(released.parent / "out")
    assert model.dit.config.heads == 2
    assert (model.space.config.adapter.heads, model.space.config.decoder.heads) == (4, 4)


def test_everything_that_is_missing_is_asked_for_at_once(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(released, {}) == FAILED
    message = capsys.readouterr().err
    assert all(flag in message for flag in SAID)
    assert "--objective flow|ddpm" in message
    assert not (released.parent / "out").exists()


@pytest.mark.parametrize("flag", list(SAID))
def test_only_what_is_missing_is_asked_for(flag: str, released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(released, {k: v for k, v in SAID.items() if k != flag}) == FAILED
    message = capsys.readouterr().err
    assert [asked for asked in SAID if asked in message] == [flag]


@pytest.mark.parametrize("name", ["web-dino+96", "mine=web-dino", "web-dino@1"])
def test_an_encoder_is_named_by_its_name_and_choices_alone(
    name: str, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(released, SAID | {"--encoder": name}) == FAILED
    assert f"--encoder {name}: a name and its choices only" in capsys.readouterr().err


def test_a_published_encoder_needs_its_weights(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = SAID | {"--encoder": "web-dino[antialias=no]", "--weights": str(tmp_path)}
    assert run(released, said, "--adapter=none") == FAILED
    assert f"looked in {tmp_path}/web-dino and the hub's cache" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_heads_are_not_asked_for_if_the_file_says_them(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_adapter(released, adapter_config={"adapter_num_heads": 4}, pixel_decoder_config={"attn_heads": 4})
    assert run(released, {k: v for k, v in SAID.items() if k not in ("--adapter-heads", "--decoder-heads")}) == 0
    assert run(released, SAID | {"--adapter-heads": "2"}) == FAILED
    assert "--adapter-heads is 2, but the adapter's file says 4" in capsys.readouterr().err


def test_several_files_must_be_told_apart(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (released / "adapter_features_8_multi.pt").write_bytes((released / "adapter_features_8.pt").read_bytes())
    assert run(released, SAID) == FAILED
    assert (
        "adapter_features_8.pt, adapter_features_8_multi.pt; name one of them with --adapter" in capsys.readouterr().err
    )
    assert run(released, SAID, "--adapter=adapter_features_8.pt") == 0
    without = {k: v for k, v in SAID.items() if k not in ("--adapter-heads", "--decoder-heads")}
    assert run(released, without, "--adapter=none") == 0
    assert WorldModel.load(released.parent / "out").space.pixels is None


def test_a_folder_without_a_transformer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "semantic-wm", str(tmp_path)]) == FAILED
    assert f"{tmp_path} has no DiT-*.pt" in capsys.readouterr().err
