"""Small recordings that look like rendered ones: flat coloured boxes that move over a shaded table."""

import numpy as np

from rslwm.data.dataset import EpisodeDataset
from rslwm.types import Episode, end_effector_spec

SPEC = end_effector_spec(0.05, 0.25)


def rendered(length: int, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    table = 255 * np.stack([0.75 - 0.2 * y, 0.65 - 0.2 * y + 0.05 * x, 0.5 + 0.1 * x], axis=-1)
    video = np.repeat(table[None], length, axis=0)
    for _ in range(5):
        start, step, colour = rng.uniform(0.2, 0.8, 2), rng.normal(0, 0.02, 2), rng.integers(0, 256, 3)
        for t in range(length):
            across, down = start + t * step
            video[t][(abs(x - across) < 0.08) & (abs(y - down) < 0.08)] = colour
    return video.astype(np.uint8)


def whole(dataset: EpisodeDataset, i: int) -> Episode:
    """An episode of a data set, with the frames of every camera."""
    frames = {camera: dataset.frames(i, camera) for camera in dataset.cameras}
    actions, text = dataset.actions(i), dataset.instructions[i]
    return Episode(dataset.ids[i], frames, actions, text, dataset.success[i], dataset.states(i), dataset.info[i])


def episode(i: int, length: int = 9, cameras: tuple[str, ...] = ("front",), size: int = 32) -> Episode:
    rng = np.random.default_rng(i)
    return Episode(
        id=f"push-{i:06d}",
        frames={camera: rendered(length, size, seed=10 * i + k) for k, camera in enumerate(cameras)},
        actions=SPEC.denormalise(rng.uniform(-1, 1, (length, 7))),
        instruction=("push the red cube", "open the drawer")[i % 2],
        success=(True, False, None)[i % 3],
        states={"gripper": rng.normal(size=(length, 3)).astype(np.float32)},
        info={"family": "push", "noise": 0.3 * i},
    )
