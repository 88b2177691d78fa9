"""rslwm latents list and check, from the command line."""

from rslwm.cli.main import main
from rslwm.latents.base import ENCODERS


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
