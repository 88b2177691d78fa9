"""What is here isn't said to be missing."""

from pathlib import Path

import pytest

from rslwm.latents.perceptual import TRUNKS
from rslwm.reproduce.machine import Machine
from tiny_checkpoints import webdino


def test_weights_that_are_here_are_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    assert Machine(weights=str(tmp_path / "none")).encoder("web-dino+96") == "weights of web-dino (1,215 MB)"
    webdino.write(tmp_path / "weights")
    assert Machine(weights=str(tmp_path / "weights")).encoder("web-dino+96") == ""


def test_a_network_is_looked_for_where_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert Machine().network("lpips-alex") == "alexnet-owt-7be5be79.pth for lpips-alex (244 MB)"
    place = tmp_path / "hub/checkpoints" / TRUNKS["alex"].source.files[0]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")
    assert Machine().network("lpips-alex") == ""


def test_data_are_here_if_their_folder_is(tmp_path: Path) -> None:
    assert Machine(bridge=f"rlds:{tmp_path}").data("bridge") == ""
    assert Machine(soar=f"rlds:{tmp_path}/none").data("soar") == f"SOAR (rlds:{tmp_path}/none)"


@pytest.mark.parametrize(("there", "missing"), [(True, ""), (False, "a GPU")])
def test_a_gpu_is_asked_for(there: bool, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert Machine().gpu() == missing
