"""Trials of policies in the true world, from beginnings that no recording has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rslwm.actors import policies
from rslwm.actors.base import ACTORS, Actor, Observation
from rslwm.actors.blind import Recorded
from rslwm.actors.remote import RemotePolicy
from rslwm.envs.base import Environment, Trajectory, play
from rslwm.evals.base import NotAvailable
from rslwm.evals.truth import Recording, Truth
from rslwm.latents.views import to_bytes
from rslwm.plan.base import stand_still
from rslwm.registry import code_of
from rslwm.remote.mapping import read
from rslwm.serialisation import from_dict
from rslwm.sim.tasks import Task
from rslwm.tensors import noted, opened, write_tensors
from rslwm.types import ActionSpec, Progress, silent

BEGINNINGS = "beginnings.safetensors"
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class TrialsConfig:
    """What policies are tried in."""

    families: tuple[str, ...] = ("push", "pick", "stack", "drawer")
    """Kinds of task."""
    trials: int = 50
    """Beginnings of every kind, the same for all policies, in truth and in imagination."""
    filmed: int = 6
    """More of them, only played in truth, whose frames are kept: judges are fitted and calibrated on these."""
    actions: int = 20
    """Of a trial."""
    context: int = 2
    """Frames before the first decision; the robot stands still in them."""
    distractors: int = -1
    """Objects that the task doesn't need; -1 is as many as in the data. Others are out of distribution."""
    another: bool = False
    """Whether something else is asked for on the same tables than they were laid for: another object, another place,
    the other way."""
    seed: int = 0
    """Another number makes other beginnings."""


@dataclass(frozen=True)
class Beginnings:
    """Of K kinds of task N + M beginnings each, the last M of which are filmed: ``frames`` (K, N + M, T0, H, W, 3)
    uint8, and what was done between them, ``past`` (K, N + M, T0-1, A), normalised."""

    frames: Tensor
    past: Tensor
    instructions: tuple[tuple[str, ...], ...]
    tasks: tuple[tuple[Task, ...], ...]

    def save(self, folder: Path) -> None:
        """Write everything."""
        told = {
            "instructions": json.dumps(self.instructions),
            "tasks": json.dumps([[*map(asdict, t)] for t in self.tasks]),
        }
        write_tensors({"frames": self.frames, "past": self.past}, folder / BEGINNINGS, told)

    @classmethod
    def load(cls, folder: Path) -> Beginnings:
        """Inverse of :meth:`save`."""
        with opened(path := folder / BEGINNINGS) as file:
            told = {name: noted(file, name, path) for name in ("tasks", "instructions")}
            tasks = tuple(tuple(from_dict(Task, task) for task in kind) for kind in told["tasks"])
            instructions = tuple(map(tuple, told["instructions"]))
            return cls(file.get_tensor("frames"), file.get_tensor("past"), instructions, tasks)


@dataclass(frozen=True)
class Trials:
    """What came of a policy's trials in the true world. ``done`` (K, N + M) is the number of the action after which the
    task was done for the first time, 0 where it was from the start, -1 where it never was, and -2 where the policy
    failed to answer. The last M were filmed: ``films`` (K, M, T0 + F, H, W, 3) uint8. ``actions`` (K, N + M, F, A)."""

    done: Tensor
    actions: Tensor
    films: Tensor
    failures: tuple[str, ...]
    """What the policy's server did, of every trial that failed."""

    @property
    def filmed(self) -> int:
        return self.films.shape[1]

    def outcomes(self, actions: int | None = None) -> Tensor:
        """(K, N) float of those that weren't filmed: 1 where the task was done, within so many actions, and NaN where
        the policy failed to answer."""
        return outcomes(self.done[:, : self.done.shape[1] - self.filmed], actions)


def outcomes(done: Tensor, actions: int | None = None) -> Tensor:
    """See :meth:`Trials.outcomes`."""
    within = (done >= 0) & (done <= (actions if actions is not None else done.max()))
    return torch.where(done == FAILED, torch.nan, within.float())


FAILED = -2
LADDER = "ladder"


def world_of(truth: Truth, config: TrialsConfig) -> Environment[Any]:
    """Where trials take place. Raises NotAvailable: the data are a recording."""
    world, data = truth.environment, truth.corpus.config
    if config.distractors < 0:
        return world
    return type(world).of_data(replace(data, sim=replace(data.sim, distractors=config.distractors)))


def begin(world: Environment[Any], config: TrialsConfig, family: str, count: int) -> Trajectory:
    """The beginnings of one kind of task, seen; raises NotAvailable: the world has none of its own."""
    try:
        start = world.starts(family, count, config.seed, config.another)
    except NotImplementedError:
        raise NotAvailable("the world behind the data has no beginnings of its own") from None
    still = torch.zeros(count, 0, world.spec.dims)
    steps = config.context - 1
    return play(Recorded(stand_still(world.spec, still, steps)), world, start, steps)


def seen_before(trajectory: Trajectory) -> Observation:
    """All frames of a beginning as one observation, at its end."""
    return replace(trajectory.seen, frames=torch.cat([_frames(trajectory.start), _frames(trajectory.seen)], 1))


@dataclass(frozen=True)
class BeginningsRecording(Recording[Beginnings]):
    """Where trials begin."""

    settings: TrialsConfig

    @property
    def name(self) -> str:
        return "beginnings of trials"

    def make(self, truth: Truth, out: Path, progress: Progress = silent) -> None:
        world, c = world_of(truth, self.settings), self.settings
        frames, past, words, tasks = [], [], [], []
        for number, family in enumerate(c.families):
            progress(number, len(c.families), family)
            seen = seen_before(begin(world, c, family, c.trials + c.filmed))
            frames.append(to_bytes(_frames(seen)))
            past.append(seen.actions.float())
            words.append(seen.instructions)
            tasks.append(tuple(place.task for place in seen.state))
        Beginnings(torch.stack(frames), torch.stack(past), tuple(words), tuple(tasks)).save(out)

    def open(self, folder: Path) -> Beginnings:
        return Beginnings.load(folder)


@dataclass(frozen=True)
class TrialsRecording(Recording[Trials]):
    """Let one policy act. A kind of task that is played isn't played again, whatever happens to the others."""

    settings: TrialsConfig
    policy: str
    digest: str
    """Of its weights or code: another one is another policy."""

    @property
    def name(self) -> str:
        return f"trials {Path(self.policy).stem if self.policy.endswith(_YAML) else self.policy}"

    def make(self, truth: Truth, out: Path, progress: Progress = silent) -> None:
        world, c = world_of(truth, self.settings), self.settings
        actor = named(self.policy, world.spec)
        for number, family in enumerate(c.families):
            progress(number, len(c.families), family)
            if not (out / _file(family)).is_file():
                as_kind(actor, world, family, c).save(out / _file(family))

    def open(self, folder: Path) -> Trials:
        kinds = [Kind.load(folder / _file(family)) for family in self.settings.families]
        done, actions, films = (torch.stack([getattr(k, name) for k in kinds]) for name in ("done", "actions", "films"))
        return Trials(done, actions, films, tuple(why for kind in kinds for why in kind.failures.values()))


def as_kind(actor: Actor, world: Environment[Any], family: str, config: TrialsConfig) -> Kind:
    """Trials of one kind of task."""
    seen = seen_before(begin(world, config, family, config.trials + config.filmed))
    played = play(actor, world, seen.state, config.actions)
    success = torch.cat([_success(seen)[:, -1:], _success(played.seen)], 1)
    films = torch.cat([_frames(seen)[config.trials :], _frames(played.seen)[config.trials :]], 1)
    failures = left(actor)
    return Kind(first(success, failures), played.seen.actions.float(), to_bytes(films), failures)


@dataclass(frozen=True)
class Kind:
    """One kind of task of :class:`Trials`."""

    done: Tensor
    actions: Tensor
    films: Tensor
    failures: Mapping[int, str]

    def save(self, path: Path) -> None:
        tensors = {name: getattr(self, name).contiguous() for name in ("done", "actions", "films")}
        write_tensors(tensors, path, {"failures": json.dumps({str(k): v for k, v in self.failures.items()})})

    @classmethod
    def load(cls, path: Path) -> Kind:
        with opened(path) as file:
            failures = {int(k): v for k, v in noted(file, "failures", path).items()}
            done, actions, films = (file.get_tensor(name) for name in ("done", "actions", "films"))
            return cls(done, actions, films, failures)


def _file(family: str) -> str:
    return f"{family}.safetensors"


def _frames(seen: Observation) -> Tensor:
    assert seen.frames is not None, "the true world shows no frames"
    return seen.frames


def _success(seen: Observation) -> Tensor:
    assert seen.success is not None, "the true world doesn't say when a task is done"
    return seen.success


def first(success: Tensor, failures: Mapping[int, str]) -> Tensor:
    """Of success (B, 1 + F) after 0 to F actions what :attr:`Trials.done` says, (B,)."""
    done = torch.where(success.any(1), success.int().argmax(1), -1)
    done[[*failures]] = FAILED
    return done


def left(actor: Actor) -> dict[int, str]:
    """In which places a policy failed to answer, and what happened there; its server is left."""
    if isinstance(actor, RemotePolicy):
        actor.close()
    return dict(getattr(actor, "failures", {}))


def named(reference: str, spec: ActionSpec) -> Actor:
    """A policy by its name in the ladder, path/to/mapping.yaml of one at an address, or another actor's name or
    path/to/file.py:Class.

    Raises:
        UnknownName: nothing answers to the name.
        ConfigError: the mapping lacks something, or its actions can't be turned into those of ``spec``.
    """
    if reference.endswith(_YAML):
        return RemotePolicy(read(Path(reference)), spec, required=False)
    if reference in policies.names():
        return policies.load(reference)
    return ACTORS.get(reference)()


def digest(reference: str) -> str:
    """Of what makes a policy what it is."""
    if reference.endswith(_YAML):
        return hashlib.sha256(Path(reference).read_bytes()).hexdigest()[:16]
    if reference in policies.names():
        weights = policies.SHIPPED / f"{reference}.safetensors"
        return hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    return code_of(ACTORS.get(reference))


def everyone(references: Sequence[str]) -> tuple[str, ...]:
    """These policies, of which each reference may name several, parted by spaces; ``ladder`` is all that are shipped,
    as is no reference."""
    names = [name for reference in references or (LADDER,) for name in reference.split()]
    return tuple(dict.fromkeys(found for name in names for found in (policies.names() if name == LADDER else [name])))
