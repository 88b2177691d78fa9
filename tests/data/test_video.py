from pathlib import Path

import av
import numpy as np
import pytest

from recordings import rendered
from rslwm.data.video import VideoWriter, read_video
from rslwm.types import DataError


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean()))


@pytest.fixture
def video(tmp_path: Path) -> tuple[Path, list[np.ndarray], list[float]]:
    """Three episodes of 7, 15 and 4 frames in one file, and where they start."""
    writer = VideoWriter(tmp_path / "v.mp4", 5.0, 64, 64)
    episodes = [rendered(length, 64, seed) for seed, length in enumerate((7, 15, 4))]
    starts = [writer.add(frames)[0] for frames in episodes]
    writer.close()
    return writer.path, episodes, starts


def test_each_episode_comes_back_above_38_db(video: tuple[Path, list[np.ndarray], list[float]]) -> None:
    path, episodes, starts = video
    for frames, start in zip(episodes, starts, strict=True):
        decoded = read_video(path, start, len(frames), 5.0, "e")
        assert decoded.shape == frames.shape
        assert decoded.dtype == np.uint8
        for original, frame in zip(frames, decoded, strict=True):
            assert psnr(original, frame) > 38


def test_an_episode_begins_with_a_key_frame(video: tuple[Path, list[np.ndarray], list[float]]) -> None:
    path, _, starts = video
    with av.open(str(path)) as container:
        keys = [frame.time for frame in container.decode(video=0) if frame.key_frame]
    assert set(starts) <= {round(time, 6) for time in keys}


def test_odd_sizes_and_uneven_rates(tmp_path: Path) -> None:
    frames = rendered(8, 37, 0)[:, :, :25]
    writer = VideoWriter(tmp_path / "v.mp4", 29.97, 37, 25)
    writer.add(frames)
    start, _ = writer.add(frames[::-1])
    writer.close()
    assert psnr(frames[::-1], read_video(writer.path, start, 8, 29.97, "e")) > 38


def test_a_reordered_codec_with_long_gops_is_read_by_time(tmp_path: Path) -> None:
    frames = rendered(40, 32, 0)
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "250", "bf": "3", "crf": "10"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert psnr(frames[23:35], read_video(tmp_path / "v.mp4", 2.3, 12, 10.0, "e")) > 38


def test_too_few_frames_are_counted(video: tuple[Path, list[np.ndarray], list[float]]) -> None:
    path, _, starts = video
    with pytest.raises(DataError, match=r"v.mp4: expected 6 frames of episode 'last' from 4.400 s on, found 4"):
        read_video(path, starts[2], 6, 5.0, "last")


def test_a_missing_frame_is_found(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width = stream.height = 32
        for pts in (0, 1, 2, 4, 5):
            frame = av.VideoFrame.from_ndarray(rendered(1, 32, pts)[0], format="rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"frame 3 is missing at 0\.600 s"):
        read_video(tmp_path / "v.mp4", 0.0, 5, 5.0, "e")


def test_a_truncated_file_is_named(video: tuple[Path, list[np.ndarray], list[float]]) -> None:
    path, _, _ = video
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"v.mp4: expected 7 frames of episode 'e'.*found 0"):
        read_video(path, 0.0, 7, 5.0, "e")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.mp4: expected 7 frames"):
        read_video(tmp_path / "none.mp4", 0.0, 7, 5.0, "e")
