"""Run by the Python of an environment with the real lerobot, never by the tests' own: it writes, reads and edits sets.

    python real_lerobot.py COMMAND JSON

prints one JSON line. ``schema`` made ``real_lerobot_schema.json``, with lerobot 0.4.4:

    python tests/data/real_lerobot.py schema '{"root": "/tmp/schema", "out": "tests/data/real_lerobot_schema.json"}'
"""

import gc
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import lerobot
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

TASKS = ["pick the red block", "nimm den grünen Würfel – schnell [bitte]", "打开抽屉"]


def picture(episode, step, height, width):
    """Left half: the episode's grey level; right half: the step's. Far enough apart to survive a lossy codec."""
    image = np.empty((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = 20 + 24 * episode, 20 + 12 * step
    return image


def open_set(root, **settings):
    backend = {} if lerobot.__version__.startswith("0.3") else {"video_backend": "torchcodec"}
    return LeRobotDataset("local/set", root=root, **backend, **settings)


def record(root, features, lengths, finalize=True, fps=10, **settings):
    """Episodes whose action begins with (episode, step) and whose pictures show the same."""
    features = {key: {**feature, "shape": tuple(feature["shape"])} for key, feature in features.items()}
    dataset = LeRobotDataset.create("local/set", fps, features, root=root, **settings)
    add_episodes(dataset, 0, lengths)
    if finalize and hasattr(dataset, "finalize"):
        dataset.finalize()
    if not finalize:
        os._exit(print(json.dumps({"version": lerobot.__version__}), flush=True) or 0)  # as if it were killed
    return {"version": lerobot.__version__}


def add_episodes(dataset, first, lengths):
    for number, length in enumerate(lengths, first):
        for step in range(length):
            dataset.add_frame(*frame(dataset, number, step))
        dataset.save_episode()


def frame(dataset, number, step):
    values = {}
    for key, feature in dataset.features.items():
        shape = tuple(feature["shape"])
        if key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
            continue
        if feature["dtype"] in ("video", "image"):
            values[key] = picture(number, step, *shape[:2])
        elif feature["dtype"] == "bool":
            values[key] = np.full(shape, step % 2, bool)
        else:
            values[key] = np.resize(np.array([number, step]), shape).astype(feature["dtype"])
    task = TASKS[number % len(TASKS)]
    if lerobot.__version__.startswith("0.3"):
        return values, task
    return ({**values, "task": task},)


def read(root, out):
    """Every row and frame of a set, a batch of a DataLoader, and what the metadata say."""
    import torch

    dataset = open_set(root)
    items = [dataset[i] for i in range(len(dataset))]
    numbers = {k: np.stack([np.asarray(item[k]) for item in items]) for k in items[0] if k != "task"}
    cameras = dataset.meta.camera_keys
    for key in cameras:
        numbers[key] = (numbers[key] * 255).round().astype(np.uint8)
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=4)))
    np.savez(out, **numbers)
    return {
        "episodes": dataset.num_episodes,
        "frames": dataset.num_frames,
        "lengths": [int(n) for n in dataset.meta.episodes["length"]],
        "tasks": [item["task"] for item in items],
        "cameras": cameras,
        "batch": {key: list(value.shape) if hasattr(value, "shape") else value for key, value in batch.items()},
        "stats": {k: {n: np.asarray(v).tolist() for n, v in s.items()} for k, s in dataset.meta.stats.items()},
    }


def append(root, lengths):
    dataset = open_set(root)
    add_episodes(dataset, dataset.num_episodes, lengths)
    dataset.finalize()
    return {}


def delete(root, out, episodes):
    from lerobot.datasets.dataset_tools import delete_episodes

    delete_episodes(open_set(root), episodes, out, "local/deleted")
    return {}


def split(root, out, splits):
    from lerobot.datasets.dataset_tools import split_dataset

    split_dataset(open_set(root), splits, out)
    return {}


def merge(roots, out):
    from lerobot.datasets.dataset_tools import merge_datasets

    merge_datasets([open_set(root) for root in roots], "local/merged", out)
    return {}


def remove(root, out, feature):
    from lerobot.datasets.dataset_tools import remove_feature

    remove_feature(open_set(root), feature, out, "local/removed")
    return {}


def schema(root, out):
    """What the library makes of every kind of feature that this project writes."""
    import pyarrow.parquet as pq

    features = {
        "action": {"dtype": "float32", "shape": (7,), "names": [f"a{i}" for i in range(7)]},
        "observation.images.front": {"dtype": "video", "shape": (64, 64, 3), "names": ["height", "width", "channels"]},
        "observation.state.vector": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        "observation.state.scalar": {"dtype": "float32", "shape": (1,), "names": ["gap"]},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    }
    record(root, features, [12, 9], vcodec="h264")
    files = {"data": "data/chunk-000/file-000.parquet", "episodes": "meta/episodes/chunk-000/file-000.parquet"}
    schemas = {name: pq.read_schema(Path(root) / path) for name, path in files.items()}
    info = json.loads((Path(root) / "meta/info.json").read_text())
    stats = json.loads((Path(root) / "meta/stats.json").read_text())
    found = {
        "lerobot": lerobot.__version__,
        **{name: {field.name: str(field.type) for field in fields} for name, fields in schemas.items()},
        "info": {name: value for name, value in info.items() if name != "features"},
        "features": info["features"],
        "stats": {k: {n: str(np.shape(v)) for n, v in s.items()} for k, s in sorted(stats.items())},
    }
    Path(out).write_text(json.dumps(found, indent=1) + "\n")
    return {}


if __name__ == "__main__":
    arguments = json.loads(sys.argv[2])
    print(json.dumps(globals()[sys.argv[1]](**arguments)))
    gc.collect()
