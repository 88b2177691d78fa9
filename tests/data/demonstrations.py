"""HDF5 files of small demonstrations as robomimic and LIBERO write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from recordings import rendered
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources.hdf5 import Hdf5
from rslwm.data.sources.opening import open_source

STEPS = 6
OSC: dict[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "control_delta": True,
    "impedance_mode": "fixed",
}


def env_args(controller: Any = None, **kwargs: Any) -> str:
    arguments = {"control_freq": 20, "robots": ["Panda"], "controller_configs": controller or OSC, **kwargs}
    return json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": arguments})


def commands(number: int, dims: int = 7) -> np.ndarray:
    actions = np.random.default_rng(number).uniform(-1, 1, (STEPS, dims))
    actions[:, -1] = np.sign(actions[:, -1])
    return actions


def demo(number: int, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "actions": commands(number),
        "rewards": np.array([0.0] * (STEPS - 1) + [float(number % 2)]),
        "dones": np.zeros(STEPS, np.int64),
        "obs/agentview_image": rendered(STEPS, 16, number),
        "obs/robot0_eef_pos": np.random.default_rng(number).normal(size=(STEPS, 3)),
        **more,
    }


def written(path: Path, demos: dict[str, dict[str, np.ndarray]], attributes: dict[str, Any] | None = None) -> Path:
    """A file as robomimic writes it."""
    import h5py  # of an extra

    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name, value in ({"env_args": env_args()} if attributes is None else attributes).items():
            data.attrs[name] = value
        for name, datasets in demos.items():
            group = data.create_group(name)
            group.attrs["num_samples"] = STEPS
            for key, values in datasets.items():
                group[key] = values
    return path


def libero(path: Path, late: bool = True, instruction: Any = "open the drawer", **attributes: Any) -> Path:
    """A file as LIBERO's create_dataset.py writes it: rows bottom up, the observation after the action."""
    joints = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (STEPS + 1, 7)), axis=0)
    states = np.concatenate([np.arange(STEPS)[:, None], joints[:STEPS], np.ones((STEPS, 3))], axis=1)
    datasets = {
        "actions": commands(0),
        "rewards": np.array([0] * (STEPS - 1) + [1], np.uint8),
        "dones": np.array([0] * (STEPS - 1) + [1], np.uint8),
        "states": states,
        "robot_states": np.ones((STEPS, 9)),
        "obs/agentview_rgb": rendered(STEPS, 16, 0)[:, ::-1],
        "obs/eye_in_hand_rgb": rendered(STEPS, 16, 1)[:, ::-1],
        "obs/joint_states": joints[1:] if late else joints[:-1],
    }
    known = {"env_args": env_args(), "problem_info": json.dumps({"language_instruction": instruction})}
    return written(path, {"demo_0": datasets}, known | {"macros_image_convention": "opengl"} | attributes)


def opened(path: Path, tmp_path: Path, **config: Any) -> EpisodeDataset:
    return open_source(DataConfig(uri=f"hdf5:{path}", **config)).open(tmp_path)


def hdf5(path: Path) -> Hdf5:
    return Hdf5(str(path), DataConfig(f"hdf5:{path}"))


def left_out(dataset: EpisodeDataset) -> list[str]:
    found: list[str] = json.loads(dataset.info_file.read_text())["rslwm"].get("left_out", [])
    return found
