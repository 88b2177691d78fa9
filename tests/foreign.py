"""LeRobot folders as other programs write them. A frame tells its row: shade of the left half the episode, of the right
half the step, and the state says the same."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rslwm.data.dataset import EpisodeDataset

NAMES = ["delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper"]
V3 = ("data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "videos/{video_key}/chunk-000/file-000.mp4")
V21 = (
    "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
)


def picture(episode: int, step: int, size: int = 32) -> np.ndarray:
    image = np.full((size, size, 3), 30 + 20 * episode, np.uint8)
    image[:, size // 2 :] = 20 + 6 * step
    return image


def shown(frames: np.ndarray) -> list[tuple[int, int]]:
    """Episode and step of every frame, read from the picture."""
    left, right = frames[:, :, : frames.shape[2] // 4], frames[:, :, -frames.shape[2] // 4 :]
    shades = (np.median(left, axis=(1, 2, 3)), np.median(right, axis=(1, 2, 3)))
    return [(round((a - 30) / 20), round((b - 20) / 6)) for a, b in zip(*shades, strict=True)]


def told(dataset: EpisodeDataset, i: int) -> list[tuple[int, int]]:
    """The same from the rows."""
    return [(int(e), int(s)) for e, s in dataset.states(i)["state"]]


@dataclass
class Foreign:
    """What to write; ``rows`` can be changed before."""

    lengths: tuple[int, ...] = (8, 11, 9)
    fps: int = 10
    video_fps: int = 10
    cameras: tuple[str, ...] = ("observation.images.front",)
    images: bool = False
    v21: bool = False
    data_path: str = V3[0]
    files: int = 1
    tasks: tuple[str, ...] = ("push the cube", "open the drawer")
    rows: dict[str, list[Any]] = field(default_factory=dict)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    features: dict[str, Any] = field(default_factory=dict)
    """More of them, or other ones."""
    left_out: tuple[str, ...] = ()
    """Columns that aren't written."""

    def __post_init__(self) -> None:
        rng, start = np.random.default_rng(0), 0
        columns = ("action", "observation.state", "timestamp", "frame_index", "episode_index", "index", "task_index")
        self.rows = {name: [] for name in columns}
        for e, length in enumerate(self.lengths):
            for t in range(length):
                row = (rng.normal(size=7).tolist(), [float(e), float(t)], t / self.fps, t, e, start + t, e % 2)
                for name, value in zip(columns, row, strict=True):
                    self.rows[name].append(value)
            self.episodes.append({"length": length, "dataset_from_index": start, "dataset_to_index": start + length})
            start += length

    def keep(self, kept: list[int], renumber: bool = True) -> None:
        """Drop the other rows, as tools do that leave the video whole."""
        self.rows = {name: [values[k] for k in kept] for name, values in self.rows.items()}
        if renumber:
            self.rows["index"] = [*range(len(kept))]
        start = 0
        for e, episode in enumerate(self.episodes):
            length = self.rows["episode_index"].count(e)
            episode |= {"length": length, "dataset_from_index": start, "dataset_to_index": start + length}
            start += length

    def write(self, root: Path) -> Path:
        scalar = {"dtype": "int64", "shape": [1], "names": None}
        features: dict[str, Any] = {
            "action": {"dtype": "float32", "shape": [7], "names": NAMES},
            "observation.state": {"dtype": "float32", "shape": [2], "names": ["episode", "step"]},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{name: scalar for name in ("frame_index", "episode_index", "index", "task_index")},
        }
        for camera in self.cameras:
            features[camera] = {"dtype": "image" if self.images else "video", "shape": [32, 32, 3]}
            features[camera] |= {"names": ["height", "width", "channels"], "info": {"video.fps": self.video_fps}}
        features |= self.features
        paths = V21 if self.v21 else (self.data_path, V3[1])
        info = {
            "codebase_version": "v2.1" if self.v21 else "v3.0",
            "fps": self.fps,
            "total_episodes": len(self.lengths),
            "total_frames": len(self.rows["index"]),
            "chunks_size": 1000,
            "data_path": paths[0],
            "video_path": None if self.images else paths[1],
            "features": features,
        }
        write(root / "meta/info.json", json.dumps(info).encode())
        self._write_tables(root)
        self._write_meta(root)
        if not self.images:
            self._write_videos(root)
        return root

    def _write_tables(self, root: Path) -> None:
        columns = {name: pa.array(values) for name, values in self.rows.items() if name not in self.left_out}
        columns["timestamp"] = pa.array(self.rows["timestamp"], pa.float32())
        owners = zip(self.rows["episode_index"], self.rows["frame_index"], strict=True)
        encoded = [png(picture(e, t)) for e, t in owners] if self.images else []
        for camera in self.cameras if self.images else ():
            columns[camera] = pa.array([{"bytes": data, "path": None} for data in encoded])
        table, owner = pa.table(columns), np.array(self.rows["episode_index"])
        for file, numbers in self._files().items():
            part = table.filter(pa.array(np.isin(owner, numbers)))
            place = {"chunk_index": 0, "file_index": file, "episode_chunk": 0, "episode_index": file}
            path = root / (V21[0] if self.v21 else self.data_path).format(**place)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(part, path, row_group_size=7)

    def _files(self) -> dict[int, list[int]]:
        """Episodes by file."""
        numbers = [*range(len(self.lengths))]
        if self.v21:
            return {n: [n] for n in numbers}
        return {f: [n for n in numbers if n * self.files // len(numbers) == f] for f in range(self.files)}

    def _write_meta(self, root: Path) -> None:
        if self.v21:
            tasks = [{"task_index": i, "task": text} for i, text in enumerate(self.tasks)]
            listed = [
                {"episode_index": e, "tasks": [self.tasks[e % 2]], "length": row["length"]}
                for e, row in enumerate(self.episodes)
            ]
            for name, rows in (("tasks", tasks), ("episodes", listed)):
                lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                write(root / f"meta/{name}.jsonl", lines.encode())
            return
        file_of = {n: file for file, numbers in self._files().items() for n in numbers}
        start, listed = 0.0, []
        for e, (length, row) in enumerate(zip(self.lengths, self.episodes, strict=True)):
            place = {"data/chunk_index": 0, "data/file_index": file_of[e]}
            for camera in () if self.images else self.cameras:
                place |= {f"videos/{camera}/{name}": 0 for name in ("chunk_index", "file_index")}
                place[f"videos/{camera}/from_timestamp"] = start
                place[f"videos/{camera}/to_timestamp"] = start + length / self.fps
            listed.append({"episode_index": e, "tasks": [self.tasks[e % 2]], **row, **place})
            start += length / self.fps
        (root / "meta/episodes/chunk-000").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(listed), root / "meta/episodes/chunk-000/file-000.parquet")
        tasks = {"task_index": [*range(len(self.tasks))], "__index_level_0__": [*self.tasks]}
        pq.write_table(pa.table(tasks), root / "meta/tasks.parquet")

    def _write_videos(self, root: Path) -> None:
        repeats = self.video_fps / self.fps
        for camera in self.cameras:
            whole: list[np.ndarray] = []
            for e, length in enumerate(self.lengths):
                frames = [picture(e, int(k / repeats + 1e-9)) for k in range(round(length * repeats))]
                if self.v21:
                    place = {"video_key": camera, "episode_chunk": 0, "episode_index": e}
                    encode(root / V21[1].format(**place), frames, self.video_fps)
                whole += frames
            if not self.v21:
                encode(root / V3[1].format(video_key=camera), whole, self.video_fps)


def encode(path: Path, frames: list[np.ndarray], fps: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "5", "g": "5", "bf": "2"})
        stream.height, stream.width = frames[0].shape[:2]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
