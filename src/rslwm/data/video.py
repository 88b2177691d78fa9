"""Many episodes in one mp4: written so that each starts at a key frame, read one at a time by its time stamp."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

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
        self.path, self.fps, self.frames = path, Fraction(fps).limit_denominator(1000), 0
        self.nbytes = 0
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


def read_video(path: Path, start: float, count: int, fps: float, episode: str) -> np.ndarray:
    """``count`` consecutive frames from ``start`` seconds on, (count, H, W, 3) uint8.

    Raises:
        DataError: the file is missing or damaged, or has not exactly these frames at these times.
    """
    frames: list[np.ndarray] = []
    problem = "the file ends"
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}
            assert stream.time_base is not None
            container.seek(int(start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                place = round((frame.time - start) * fps)
                if place < 0:
                    continue
                if place != len(frames):
                    problem = f"frame {len(frames)} is missing at {start + len(frames) / fps:.3f} s"
                    break
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    return np.stack(frames)
    except (av.error.FFmpegError, IndexError) as error:
        problem = str(error)
    raise DataError(
        f"{path}: expected {count} frames of episode {episode!r} from {start:.3f} s on, found {len(frames)} "
        f"({problem}). Copy or record the file again, or remove the episode."
    )
