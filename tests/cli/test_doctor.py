"""What the doctor says of a machine."""

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from rslwm.cli import doctor
from rslwm.cli.main import main


def test_a_sound_machine_passes(capsys):
    code = main(["doctor"])
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("python", "torch", "simulator", "libx264", "cores", "disk"))
    assert code == 0


def test_a_machine_that_can_not_render_is_told_what_to_install(monkeypatch, capsys):
    from rslwm.sim.engine import EGL_REMEDY

    def failing():
        yield doctor.Fact("simulator", "MuJoCo can't draw", EGL_REMEDY, fatal=True)

    monkeypatch.setattr(doctor, "CHECKS", (failing,))
    assert main(["doctor"]) == 1
    assert "apt-get install libegl1 libgl1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms does not exist"), ImportError("no")])
def test_a_broken_torchvision_is_fatal(error, monkeypatch):
    def broken(name: str):
        raise error

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "0.28.0+cu130")
    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    (fact,) = doctor._torchvision()
    assert fact.fatal
    assert "pip uninstall torchvision" in fact.remedy
    assert str(error) in fact.found


def test_core_runs_without_torchvision():
    """A build for another torch breaks torchmetrics and more when it is imported, so none is installed."""
    (fact,) = doctor._torchvision()
    assert not fact.fatal
