"""A world in closed form: a point that actions push about, shown as a colour.

Latents (T, 4, 4, 4) hold the point's position and the last gripper command in every cell. Between two frames of a clip
(two recorded steps) the position moves by the composed, normalised action, so the right prediction, the right action
and the right read-out are known exactly, up to the rounding of stored latents to bfloat16.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from rslwm.actors.base import Observation
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.frames import build_frame_store
from rslwm.data.lerobot import write_lerobot
from rslwm.data.sources.base import Source
from rslwm.data.store import TensorStore
from rslwm.envs.base import ENVIRONMENTS, Environment
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModelConfig
from rslwm.types import ActionSpec, Episode

SPEC = ActionSpec(
    names=("x", "y", "z", "gripper"),
    kinds=("translation", "translation", "translation", "gripper"),
    units=("m", "m", "m", "1"),
    low=(-0.05, -0.05, -0.05, 0.0),
    high=(0.05, 0.05, 0.05, 1.0),
)
STATE_NAMES = {
    "gripper_position": ["x", "y", "z"],
    "object_position": ["red_x", "red_y", "red_z", "blue_x", "blue_y", "blue_z"],
    "object_present": ["red", "blue"],
    "object_yaw": ["red", "blue"],
    "object_square": ["red", "blue"],
    "gripper_opening": ["gap"],
    "drawer_opening": ["opening"],
    "contact": ["contact"],
    "held": ["held"],
}
SIZE, GRID = 32, 4
SPLIT = {"test_fraction": 0.34, "split_seed": 7}
"""Four of twelve episodes, with both outcomes on both sides."""
METRES = 0.1
"""Metres of the gripper's position per unit of the latent one."""


def latents(actions: np.ndarray) -> Tensor:
    """(T, 4) actions in units -> (T, 4, 4, 4). The last action leads nowhere, so it serves as the starting point."""
    position = np.cumsum(np.roll(actions[:, :3], 1, 0) / 0.1, 0)
    gripper = np.concatenate([[-1.0], 2 * actions[:-1, 3] - 1])
    z = torch.from_numpy(np.column_stack([position, gripper])).float()
    return z[:, None, None].expand(-1, GRID, GRID, -1).contiguous()


def geometry(z: Tensor) -> Tensor:
    """(..., 4) position and gripper command -> (..., 4): the first object's yaw in radians, the drawer's opening in
    metres, how far the gripper is closed, from -1 to 1, and on which side of the edge of what it touches it is."""
    x, y, _, gripper = z.unbind(-1)
    return torch.stack([0.2 * x, 0.04 + 0.005 * y, -gripper, x], -1)


def paint(z: Tensor) -> Tensor:
    """(..., 4, 4, 4) latents -> (..., 32, 32, 3) in [0, 1]: the position as a colour over a faint gradient."""
    colour = 0.5 + 0.3 * torch.tanh(z.mean((-3, -2))[..., :3])
    return colour[..., None, None, :] + torch.linspace(-0.1, 0.1, SIZE)[:, None, None].expand(SIZE, SIZE, 3)


def episode(i: int, success: bool | None) -> Episode:
    """Success is closing the gripper at the end."""
    rng = np.random.default_rng(i)
    length = 14 + i % 5
    actions = SPEC.denormalise(rng.uniform(-0.6, 0.6, (length, 4)))
    actions[-3:, 3] = 0.0 if success else 1.0
    position = latents(actions)[:, 0, 0, :3].numpy() * METRES
    second = np.full((length, 3), 0.2 * (i % 2), np.float32)  # in every other episode, and zeros where it is absent
    present = np.tile(np.array([1.0, float(i % 2)], np.float32), (length, 1))
    turned, opening, closed, touching = geometry(latents(actions)[:, 0, 0]).numpy().T
    return Episode(
        id=f"point-{i:03d}",
        frames={"front": (paint(latents(actions)) * 255).round().byte().numpy()},
        actions=actions,
        instruction=("push the red cube", "open the drawer", "")[i % 3],
        success=success,
        states={
            "gripper_position": position,
            "object_position": np.concatenate([position + 0.1, second], 1),
            "object_present": present,
            "object_yaw": np.column_stack([turned, np.zeros_like(turned)]) * present,
            "object_square": present * [1, 0],  # the second one is round
            "gripper_opening": 0.05 - 0.03 * closed[:, None],
            "drawer_opening": opening[:, None] * (i % 3 == 1),  # there is one in every third episode
            "contact": (touching > 0)[:, None].astype(np.float32),
            "held": ((touching > 0) & (closed > 0))[:, None].astype(np.float32),
        },
    )


def write_corpus(root: Path, success: list[bool | None]) -> Corpus:
    """A data set with an episode for each label, its frames, and a split that holds out a third."""
    episodes = (episode(i, label) for i, label in enumerate(success))
    dataset = write_lerobot(episodes, root / "set", SPEC, state_names=STATE_NAMES)
    frames = build_frame_store(dataset, "", SIZE, root / "frames")
    return Corpus(dataset, frames, DataConfig(uri=f"lerobot:{dataset.root}", image_size=SIZE, **SPLIT))


def write_latents(corpus: Corpus, root: Path) -> TensorStore:
    """The true latents of every episode."""
    ids, actions = corpus.dataset.ids, corpus.actions
    return TensorStore.write(root, [(key, latents(a)) for key, a in zip(ids, actions, strict=True)], {"of": "point"})


@dataclass(frozen=True)
class PointState:
    last: Tensor
    candidates: int = 1

    def fork(self, candidates: int) -> "PointState":
        return replace(self, candidates=candidates)


class PointWorldModel:
    """Predicts exactly what happens, or, with ``gain`` 0, that nothing does."""

    device = torch.device("cpu")

    def __init__(self, gain: float = 1.0) -> None:
        self.config, self.gain, self.action_spec = WorldModelConfig(), gain, SPEC.composed(2)
        self.dit = nn.Linear(1, 1)  # tells the precision

    def rollout(
        self, context: Tensor, actions: Tensor, sampling: SamplingConfig, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._move(context[:, -1], actions[:, context.shape[1] - 1 :])

    def start(self, context: Tensor, actions: Tensor, full_window: bool = False) -> PointState:
        return PointState(context[:, -1])

    def unroll(
        self, state: PointState, actions: Tensor, sampling: SamplingConfig, noise: Tensor | None = None
    ) -> Tensor:
        return self._move(state.last.repeat_interleave(state.candidates, 0), actions)

    def step(
        self, state: PointState, action: Tensor, sampling: SamplingConfig, noise: Tensor, following: Tensor | None
    ) -> tuple[PointState, Tensor]:
        frame = self._move(state.last, action[:, None])[:, 0]
        return PointState(frame), frame

    def decode(self, z: Tensor) -> Tensor:
        return paint(z)

    def encode(self, frames: Tensor) -> Tensor:
        """What :func:`paint` shows of a position; it doesn't show the gripper's command, which is taken to be 0."""
        colour = (frames.mean((-3, -2)) - 0.5) / 0.3
        position = torch.atanh(colour.clamp(-0.999, 0.999))
        z = torch.cat([position, torch.zeros_like(position[..., :1])], -1)
        return z[..., None, None, :].expand(*z.shape[:-1], GRID, GRID, 4).clone()

    def _move(self, z: Tensor, actions: Tensor) -> Tensor:
        """(B, h, w, 4) and actions (B, F, 4) -> (B, F, h, w, 4)."""
        future = z[:, None].expand(-1, actions.shape[1], -1, -1, -1).clone()
        future[..., :3] += self.gain * actions[..., :3].cumsum(1)[:, :, None, None]
        if self.gain:
            future[..., 3] = actions[..., 3][:, :, None, None]
        return future


class AstrayWorldModel(PointWorldModel):
    """Goes astray by ``drift`` a frame, half of the bounds, wherever the point is at a positive x."""

    drift = 0.5

    def step(self, state, action, sampling, noise, following):  # type: ignore[no-untyped-def]
        last = state.last.repeat_interleave(state.candidates, 0)
        far = last[..., :1].mean((1, 2), keepdim=True) > 0
        state, frame = super().step(PointState(last), action, sampling, noise, following)
        frame = torch.cat([frame[..., :1] + self.drift * far, frame[..., 1:]], -1)
        return replace(state, last=frame), frame


class ReadAction(nn.Module):
    """The right inverse dynamics over one frame."""

    def forward(self, pair: Tensor) -> Tensor:
        earlier, later = pair.mean((2, 3)).unbind(1)
        return torch.cat([later[:, :3] - earlier[:, :3], later[:, 3:]], 1)


class ReadGoal(nn.Module):
    """The right next action towards a goal, no larger than ``most``."""

    def __init__(self, most: float = 1.0) -> None:
        super().__init__()
        self.most = most

    def forward(self, pair: Tensor) -> Tensor:
        now, goal = pair.mean((2, 3)).unbind(1)
        way = (goal - now)[:, :3].clamp(-self.most, self.most)
        return torch.cat([way, torch.zeros_like(way[:, :1])], 1)


class ReadState(nn.Module):
    """The right read-out, in the units that state probes predict: (metres - mean) / std."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, z: Tensor) -> Tensor:
        gripper = METRES * z.mean((1, 2, 3))[:, :3]
        return (torch.cat([gripper, gripper + 0.1, torch.full_like(gripper, 0.2)], 1) - self.mean) / self.std


class ReadGeometry(nn.Module):
    """The right geometry, in the units that its probe predicts."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, z: Tensor) -> Tensor:
        yaw, opening, closed, touching = geometry(z.mean((1, 2, 3))).unbind(-1)
        round_ = torch.zeros_like(yaw)
        turned = [torch.sin(4 * yaw), torch.cos(4 * yaw), round_, round_]
        held = torch.where(closed > 0, touching, -torch.ones_like(closed))
        return (torch.stack([*turned, 0.05 - 0.03 * closed, opening, touching, held], 1) - self.mean) / self.std


class ReadSuccess(nn.Module):
    """Whether the gripper is closed in the last frame."""

    def forward(self, z: Tensor) -> Tensor:
        return -4 * z.mean((2, 3))[:, -1, 3:]


class Recalls(nn.Module):
    """What is known of every frame (T, out) of every episode, told by a clip's last one: the right reading of what only
    memory tells in this world."""

    def __init__(self, corpus: Corpus, latents: TensorStore, known: Sequence[Tensor]) -> None:
        super().__init__()
        frames = [latents[key].float().mean((1, 2)) for key in corpus.dataset.ids]
        self.frames, self.known = torch.cat(frames), torch.cat([*known]).float()

    def forward(self, z: Tensor) -> Tensor:
        return self.known[torch.cdist(z[:, -1].mean((1, 2)), self.frames).argmin(1)]


# -------------------------------------------------------------------------------------------------- as it truly is


@dataclass(frozen=True)
class Place:
    """The point's latents (4, 4, 4), whether there is a second object, and the course of chance."""

    z: Tensor
    second: bool
    seed: int = 0


class PointEnvironment(Environment[tuple[Place, ...]]):
    """What really happens to the point. With ``sigma`` every step also moves it at random, by so much of the bounds."""

    sigma = 0.0

    @classmethod
    def of_data(cls, config: DataConfig, frames: bool = True) -> Self:
        return cls()

    @property
    def spec(self) -> ActionSpec:
        return SPEC.composed(2)

    @property
    def random(self) -> bool:
        return self.sigma > 0

    def reset(self, state: tuple[Place, ...]) -> Observation:
        return self._at(state, torch.zeros(len(state), 0, SPEC.dims))

    def step(self, actions: Tensor, following: Tensor | None = None) -> Observation:
        moved = []
        for place, action in zip(self._places, actions.float(), strict=True):
            z, g = place.z.clone(), torch.Generator().manual_seed(place.seed)
            z[..., :3] += action[:3] + self.sigma * torch.randn(3, generator=g)
            z[..., 3] = action[3]
            moved.append(replace(place, z=z, seed=place.seed + 1))
        return self._at(tuple(moved), actions[:, None])

    def _at(self, places: tuple[Place, ...], actions: Tensor) -> Observation:
        self._places = places
        z = torch.stack([place.z for place in places])[:, None]
        position = METRES * z[:, :, 0, 0, :3]
        second = torch.tensor([float(place.second) for place in places])[:, None, None]
        truth = {
            "gripper_position": position,
            "object_position": torch.cat([position + 0.1, (0.2 * second).expand(-1, 1, 3)], 2),
            "object_present": torch.cat([torch.ones_like(second), second], 2),
        }
        success = torch.zeros(len(places), 1, dtype=torch.bool)
        return Observation(actions, z, paint(z), truth, success, state=places)

    def fork(self, state: tuple[Place, ...], candidates: int) -> tuple[Place, ...]:
        return tuple(place for place in state for _ in range(candidates))

    def gathered(self, moments: Sequence[Place]) -> tuple[Place, ...]:
        return tuple(moments)

    def cameras(self, state: tuple[Place, ...]) -> Tensor:
        """It looks along x from afar: a metre is 100 pixels wherever it is."""
        matrix = torch.tensor([[0.0, 100.0, 0.0, SIZE / 2], [0.0, 0.0, 100.0, SIZE / 2], [0.0, 0.0, 0.0, 1.0]])
        return matrix.expand(len(state), 1, 3, 4)

    def reseeded(self, state: tuple[Place, ...], seed: int) -> tuple[Place, ...]:
        return tuple(replace(place, seed=1000 * (seed + 1) + 100_000 * i) for i, place in enumerate(state))


class RandomPointEnvironment(PointEnvironment):
    """The same with a tenth of the bounds at random."""

    sigma = 0.1


ENVIRONMENTS.register("point")(PointEnvironment)
ENVIRONMENTS.register("random-point")(RandomPointEnvironment)


class PointSource(Source):
    """Where the point's episodes come from, with the truth behind them."""

    environment = "point"

    def truth(self, dataset: EpisodeDataset, episode: int, step: int) -> Place:
        return Place(latents(dataset.actions(episode))[step], bool(dataset.states(episode)["object_present"][step, 1]))


class RandomPointSource(PointSource):
    environment = "random-point"
