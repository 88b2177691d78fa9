"""rslwm latents list, check and encode, from the command line."""

from rslwm.cli.main import FAILED, main
from rslwm.latents.base import ENCODERS
from rslwm.latents.space import LatentSpace, SpaceConfig


def test_list_names_every_encoder(capsys):
    assert main(["latents", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in ENCODERS)


def test_a_sound_plugin_passes(plugin, capsys):
    assert main(["latents", "check", f"{plugin}:PatchMean"]) == 0
    assert "no findings in patch-mean: frozen, floor, 64 px -> 8x8x3" in capsys.readouterr().out


def test_a_wrong_plugin_fails(plugin, capsys):
    assert main(["latents", "check", f"{plugin}:WrongGrid"]) == 1
    printed = capsys.readouterr().out
    assert "wrong: frozen, floor, 64 px -> 5x5x3" in printed
    assert "1 errors" in printed


def test_a_space_of_two_views_wants_two_cameras(plugin, tmp_path, capsys):
    LatentSpace(SpaceConfig(f"{plugin}:PatchMean", 64, views=2)).save(tmp_path / "space")
    asked = ["latents", "encode", str(tmp_path / "space"), "--data", "lerobot:nowhere", "--out", str(tmp_path / "out")]
    assert main([*asked, "--camera", "front"]) == FAILED
    assert "'front' is 1 camera(s)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
