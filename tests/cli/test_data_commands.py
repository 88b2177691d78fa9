"""rslwm data make, check and show."""

import shutil

import numpy as np
from PIL import Image

from rslwm.cli.main import FAILED, main
from rslwm.data.dataset import EpisodeDataset


def test_make_records_what_it_is_told_to(tmp_path, capsys):
    folder = tmp_path / "set"
    asked = ["--episodes", "2", "--families", "push", "--cameras", "front,wrist", "--max-steps", "6"]
    assert main(["data", "make", str(folder), *asked]) == 0
    dataset = EpisodeDataset(folder)
    assert (len(dataset), dataset.cameras, max(dataset.lengths)) == (2, ["front", "wrist"], 6)
    assert f"--data lerobot:{folder}" in capsys.readouterr().out.replace("\n", "")


def test_make_never_overwrites(corpus, capsys):
    assert main(["data", "make", str(corpus.dataset.root), "--episodes", "1"]) == FAILED
    assert "a data set is never overwritten" in capsys.readouterr().err


def test_check_passes_a_sound_set_and_fails_a_damaged_one(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damaged = shutil.copytree(corpus.dataset.root, tmp_path / "damaged")
    (video,) = damaged.glob("videos/*/*/*.mp4")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert main(["data", "check", f"lerobot:{corpus.dataset.root}"]) == 0
    assert main(["data", "check", f"lerobot:{damaged}"]) == FAILED
    assert "error" in capsys.readouterr().out


def test_show_says_what_there_is(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "episodes.png"
    words = [f"lerobot:{corpus.dataset.root}", "--picture", str(picture), "--rows", "3", "--columns", "5"]
    assert main(["data", "show", *words]) == 0
    printed = capsys.readouterr().out
    lengths = corpus.dataset.lengths
    assert f"12, {min(lengths)} to {max(lengths)} steps, {sum(lengths)} together" in printed
    assert "6 yes, 6 no, 0 unlabelled" in printed
    assert "-0.05 to 0.05" in printed
    drawn = np.asarray(Image.open(picture))
    assert drawn.shape == (3 * 32, 5 * 32, 3)
    assert np.array_equal(drawn[:32, :32], corpus.dataset.frames(0, "front")[0])
