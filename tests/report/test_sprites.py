import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from rslwm.report.formats import data_uri
from rslwm.report.run import Clips
from rslwm.types import DataError


@pytest.fixture
def clips():
    rng = np.random.default_rng(0)
    frames = {name: rng.integers(0, 256, (2, 5, 8, 6, 3), np.uint8) for name in ("truth", "a", "b")}
    return Clips(frames, 2, ("one", "two"))


def test_rows_are_spaces_and_columns_are_frames(clips):
    image = clips.sheet(1, ["b", "a"])
    assert image.shape == (3 * 8, 5 * 6, 3)
    np.testing.assert_array_equal(image[8:16, 18:24], clips.frames["b"][1, 3])
    np.testing.assert_array_equal(image[:8, :6], clips.frames["truth"][1, 0])


def test_frames_of_another_size_are_fitted_to_the_truth(clips):
    clips.frames["a"] = np.full((2, 5, 16, 12, 3), 7, np.uint8)
    image = clips.sheet(0, ["a"])
    assert image.shape == (16, 30, 3)
    assert (image[8:] == 7).all()


def test_the_uri_holds_the_pixels(clips):
    image = clips.sheet(0, ["a", "b"])
    payload = base64.b64decode(data_uri(image).removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(payload))), image)


def write(folder, name, frames, **note):
    folder.mkdir(exist_ok=True)
    save_file({"frames": frames}, folder / f"{name}.safetensors", note or None)


def test_clips_are_cut_to_what_all_spaces_have(tmp_path):
    write(
        tmp_path / "clips", "truth", np.zeros((3, 9, 4, 4, 3), np.uint8), context="2", ids=json.dumps(["x", "y", "z"])
    )
    write(tmp_path / "clips", "a", np.zeros((2, 7, 4, 4, 3), np.uint8))
    clips = Clips.load(tmp_path / "clips")
    assert {array.shape for array in clips.frames.values()} == {(2, 7, 4, 4, 3)}
    assert (clips.context, clips.ids) == (2, ("x", "y"))


def test_a_file_without_frames_is_named(tmp_path):
    write(tmp_path / "clips", "truth", np.zeros((1, 2, 4, 4, 3), np.uint8))
    save_file({"video": np.zeros(3)}, tmp_path / "clips" / "a.safetensors")
    with pytest.raises(DataError, match="no tensor 'frames'"):
        Clips.load(tmp_path / "clips")
