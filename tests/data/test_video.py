import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from recordings import rendered
from rslwm.data.video import VideoWriter, read_video
from rslwm.types import DataError


@pytest.fixture
def ordinary() -> Iterator[None]:
    """Scheduling as before: where root encodes, SVT-AV1 makes the thread that asks for it a real-time one, and whatever
    that starts afterwards is too and starves everything else."""
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    os.sched_setscheduler(0, *before)


def times(start: float, count: int, fps: float) -> np.ndarray:
    return start + np.arange(count) / fps


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
        decoded = read_video(path, times(start, len(frames), 5), 5.0, "e")
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
    assert psnr(frames[::-1], read_video(writer.path, times(start, 8, 29.97), 29.97, "e")) > 38


def test_a_reordered_codec_with_long_gops_is_read_by_time(tmp_path: Path) -> None:
    frames = rendered(40, 32, 0)
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "250", "bf": "3", "crf": "10"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert psnr(frames[23:35], read_video(tmp_path / "v.mp4", times(2.3, 12, 10), 10.0, "e")) > 38


def test_too_few_frames_are_counted(video: tuple[Path, list[np.ndarray], list[float]]) -> None:
    path, _, starts = video
    with pytest.raises(
        DataError, match=r"v.mp4: expected 6 frames of episode 'last' from 4.400 s on, found 4: the video"
    ):
        read_video(path, times(starts[2], 6, 5), 5.0, "last")


def test_a_missing_frame_is_found(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width = stream.height = 32
        for pts in (0, 1, 2, 4, 5):
            frame = av.VideoFrame.from_ndarray(rendered(1, 32, pts)[0], format="rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(
        DataError, match=r"step 3 is at 0\.600 s, the nearest frame at 0\.\d+ s, 0\.200 s away.*A frame is missing"
    ):
        read_video(tmp_path / "v.mp4", times(0, 5, 5), 5.0, "e")


def test_a_truncated_file_is_named(video: tuple[Path, list[np.ndarray], list[float]]) -> None:
    path, _, _ = video
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"v.mp4: expected 7 frames of episode 'e'.*can't be decoded"):
        read_video(path, times(0, 7, 5), 5.0, "e")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.mp4: .* does not exist"):
        read_video(tmp_path / "none.mp4", times(0, 7, 5), 5.0, "e")


def coded(
    path: Path, shades: list[int], fps: float, codec: str = "libx264", pix_fmt: str = "yuv420p", **options: str
) -> Path:
    """A video whose frames are told apart by their shade."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000), options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = pix_fmt
        for shade in shades:
            image = np.full((64, 64, 3), shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def shades(frames: np.ndarray) -> list[int]:
    return np.median(frames, axis=(1, 2, 3)).round().astype(int).tolist()


SHADES = list(range(20, 220, 4))


@pytest.mark.parametrize(("rate", "per_row"), [(30, 3.0), (10, 1.0), (20, 2.0), (25, 2.5), (15, 1.5)])
def test_a_video_of_any_rate_shows_the_nearest_frame(tmp_path: Path, rate: float, per_row: float) -> None:
    path = coded(tmp_path / "v.mp4", SHADES, rate, crf="1")
    found = shades(read_video(path, times(0.4, 10, 10), 10.0, "e"))
    for row, shade in enumerate(found):
        wanted = (row + 4) * per_row
        assert abs((shade - 20) / 4 - wanted) <= 0.5 + 0.4


def test_rows_that_were_dropped_leave_the_others_their_frames(tmp_path: Path) -> None:
    path, kept = coded(tmp_path / "v.mp4", SHADES, 10, crf="1"), [3, 4, 11, 12, 30]
    found = shades(read_video(path, np.array(kept) / 10, 10.0, "e"))
    assert np.allclose(found, [SHADES[k] for k in kept], atol=1.5)


def test_a_drift_against_a_video_of_the_same_rate_is_refused_with_its_size(tmp_path: Path) -> None:
    path = coded(tmp_path / "v.mp4", SHADES, 10)
    with pytest.raises(DataError, match=r"step 5 is at 0\.526 s, the nearest frame at 0\.500 s, 0\.026 s away"):
        read_video(path, times(0, 20, 9.5), 10.0, "e")


def test_a_small_jitter_changes_no_frame(tmp_path: Path) -> None:
    path = coded(tmp_path / "v.mp4", SHADES, 10, crf="1")
    jitter = np.random.default_rng(0).uniform(-0.02, 0.02, 20)
    assert shades(read_video(path, times(0.5, 20, 10) + jitter, 10.0, "e")) == shades(
        read_video(path, times(0.5, 20, 10), 10.0, "e")
    )


def test_frames_of_the_next_episode_are_not_taken(tmp_path: Path) -> None:
    path = coded(tmp_path / "v.mp4", SHADES, 10)
    assert len(read_video(path, times(0, 20, 10), 10.0, "e", 0.0, 2.0)) == 20
    with pytest.raises(DataError, match=r"step 20 at 2\.000 s shows a frame of another episode"):
        read_video(path, times(0, 21, 10), 10.0, "e", 0.0, 2.0)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [
        ("libx264", "yuv420p", {"g": "250", "bf": "3", "crf": "5"}),
        ("libx265", "yuv420p", {"g": "60", "bf": "4", "crf": "5", "x265-params": "log-level=none"}),
        ("libx265", "gray", {"g": "60", "crf": "5", "x265-params": "log-level=none"}),
        ("libsvtav1", "yuv420p", {"g": "2", "crf": "20"}),
    ],
)
def test_every_codec_of_lerobot_is_read_from_the_middle(
    tmp_path: Path, ordinary: None, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    path = coded(tmp_path / "v.mp4", SHADES, 10, codec, pix_fmt, **options)
    for start in (0, 17, 38):
        found = shades(read_video(path, times(start / 10, 12, 10), 10.0, "e"))
        assert np.allclose(found, SHADES[start : start + 12], atol=1.9)


def test_a_deep_gray_video_is_called_a_depth_map(tmp_path: Path) -> None:
    path = coded(tmp_path / "v.mp4", SHADES, 10, "libx265", "gray12le", **{"x265-params": "log-level=none"})
    with pytest.raises(DataError, match=r"one channel of 12 bits.*depth map, not colours"):
        read_video(path, times(0, 5, 10), 10.0, "e")
