"""Many episodes in one mp4: each written to start at a key frame, and read by the time stamps of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType

from rslwm.types import DataError

PIXEL_FORMAT = "yuv444p"  # 4:2:0 costs 9 dB on small saturated objects
# One thread: the bytes, and with them the data set's fingerprint, must not depend on the number of cores.
ENCODER = {"crf": "10", "preset": "veryfast", "g": "10", "bf": "0", "forced-idr": "1", "threads": "1"}


class VideoWriter:
    """One H.264 file; ``add`` appends an episode's frames, (T, H, W, 3) uint8, and begins it with a key frame."""

    def __init__(self, path: Path, fps: float, height: int, width: int) -> None:
        self.path, self.fps = path, Fraction(fps).limit_denominator(1000)
        self.frames = self.nbytes = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=self.fps, options=ENCODER)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, PIXEL_FORMAT

    def add(self, frames: np.ndarray) -> tuple[float, float]:
        """Returns the time stamps of the first frame and of the end, in seconds."""
        start = self.frames
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = self.frames, 1 / self.fps
            if self.frames == start:
                frame.pict_type = PictureType.I
            self._mux(frame)
            self.frames += 1
        return float(start / self.fps), float(self.frames / self.fps)

    def close(self) -> None:
        self._mux(None)
        self._container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        packets = self._stream.encode(frame)
        self.nbytes += sum(packet.size for packet in packets)
        self._container.mux(packets)


SAME_RATE = 0.02  # rates that differ by less than this share are taken as meant to be the same


def read_video(
    path: Path, times: np.ndarray, fps: float, episode: str, start: float = 0.0, end: float | None = None
) -> np.ndarray:
    """The frame nearest to each of these times, (T, H, W, 3) uint8; the video may have any rate.

    Times are ascending seconds in the file, ``fps`` is the table's rate. A frame may lie half a video frame away, or a
    quarter if video and table have the same rate, so that frames and rows belong together one by one; one outside the
    episode's ``start`` and ``end`` in the file is another's, and never taken. Raises DataError: the file is missing or
    damaged, or has no frame at one of these times.
    """
    wanted = f"{path}: expected {len(times)} frames of episode {episode!r} from {times[0]:.3f} s on"
    with _opened(path, f"{wanted}, but it") as container:
        stream = container.streams.video[0]
        _require_colour(stream, path)
        rate = float(stream.average_rate or stream.guessed_rate or fps)
        reach = (0.25 if abs(rate / fps - 1) < SAME_RATE else 0.5) / rate
        last = np.inf if end is None else end - 0.5 / max(rate, fps)
        decoded = _decoded(container, stream, float(times[0]), reach)
        return np.stack([*_nearest(decoded, times.tolist(), reach + 1e-4, start - reach, last, wanted)])


def length(path: Path) -> float:
    """Seconds that a video says it lasts; 0 if it doesn't say. Raises DataError: the file is missing or damaged."""
    with _opened(path, str(path)) as container:
        stream = container.streams.video[0]
        return float((stream.duration or 0) * (stream.time_base or 0))


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Any]:
    """A video's container; whatever is wrong with it is a DataError that begins with ``what``."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
    except FileNotFoundError:
        raise DataError(f"{what} does not exist. Copy it there.") from None
    except (av.error.FFmpegError, IndexError) as error:
        raise DataError(f"{what} can't be decoded ({error}). Copy or record the file again.") from None


def _nearest(
    frames: Iterator[av.VideoFrame], times: list[float], reach: float, start: float, end: float, expected: str
) -> Iterator[np.ndarray]:
    """The picture nearest to each time, of frames by ascending time; those outside [start, end] aren't taken."""
    before: av.VideoFrame | None = None
    after, taken, picture, ended = before, before, np.empty(0), False
    for step, wanted in enumerate(times):
        while not ended and (after is None or after.time < max(wanted, start)):
            before, after = after, next(frames, None)
            ended = after is None or after.time > end
        own = [frame for frame in (after, before) if frame is not None and start <= frame.time <= end]
        nearest = min(own, key=lambda frame: abs(frame.time - wanted), default=None)
        if nearest is None or abs(nearest.time - wanted) > reach:
            why = _lack(step, wanted, None if ended else nearest, before, after, reach)
            raise DataError(f"{expected}, found {step}: {why}")
        if nearest is not taken:
            taken, picture = nearest, nearest.to_ndarray(format="rgb24")
        yield picture


def _lack(step: int, wanted: float, nearest: Any, before: Any, stranger: Any, reach: float) -> str:
    """Why no frame is taken for a step."""
    at = f"step {step} is at {wanted:.3f} s"
    if nearest is not None:
        off = f"the nearest frame at {nearest.time:.3f} s, {abs(nearest.time - wanted):.3f} s away"
        return f"{at}, {off}; up to {reach:.3f} s is taken. A frame is missing, or time stamps and video run apart"
    if stranger is not None:
        shows = f"step {step} at {wanted:.3f} s shows a frame of another episode, the one at {stranger.time:.3f} s"
        return f"{shows}. Correct from_timestamp and to_timestamp, or the time stamps"
    if before is None:
        return "there is no frame. The file is cut off: copy or record it again"
    ends = f"the video ends at {before.time:.3f} s, {at}"
    return f"{ends}. Copy the file again if it is cut off; else from_timestamp and timestamp point past its end"


def _decoded(container: Any, stream: Any, start: float, margin: float) -> Iterator[av.VideoFrame]:
    """Frames from a key frame at or before ``start`` seconds."""
    stream.codec_context.options = {"err_detect": "explode"}
    for target in (start, 0.0):  # key frames are found by the time at which they are decoded, which may be earlier
        container.seek(int(target / (stream.time_base or 1)), stream=stream)
        frames = container.decode(stream)
        first = next(frames, None)
        if first is not None and (first.time <= start + margin or not target):
            yield first
            yield from frames
            return


def _require_colour(stream: Any, path: Path) -> None:
    if stream.codec_context is None:
        raise DataError(f"{path}: its codec isn't known here, or the file is damaged. Copy or record it again.")
    pixels = stream.codec_context.format
    if pixels is not None and len(pixels.components) == 1 and pixels.components[0].bits > 8:
        raise DataError(
            f"{path} has one channel of {pixels.components[0].bits} bits ({pixels.name}): a depth map, not colours. "
            "Choose another camera with data.camera, or flag it with is_depth_map in meta/info.json."
        )
