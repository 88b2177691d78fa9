"""RLDS data sets as TFDS writes them (BridgeData V2, Open X-Embodiment), read without TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from rslwm.data.conventions import check_bounds
from rslwm.data.leaves import Dialect, Layout, Leaf, Names, lay_out
from rslwm.data.pictures import is_black, video
from rslwm.data.sources.base import SOURCES
from rslwm.data.sources.foreign import Foreign, flat_states, log
from rslwm.data.tfds import numbers, read_features, read_shards, texts
from rslwm.data.tfrecord import Value, parse_example, read_records
from rslwm.types import ActionSpec, DataError, Episode, end_effector_spec

REWARD = "steps/reward"
DIALECT = Dialect(
    action="steps/action",
    observation="steps/observation/",
    instructions=("steps/language_instruction", "steps/observation/natural_language_instruction"),
    ignored=(
        *(f"steps/{name}" for name in ("reward", "discount", "is_first", "is_last", "is_terminal")),
        *(f"episode_metadata/{name}" for name in ("file_path", "episode_id")),
    ),
    step="steps/",
)
SAMPLE = 64
"""Episodes of which the actions are looked at to tell whether a convention can be theirs."""

BRIDGE_SPEC = end_effector_spec(0.05, 0.25, hz=5.0)
"""BridgeData V2's actions; its control rate is 5 Hz, which RLDS has no place for (arXiv 2308.12952)."""
_BRIDGE_NAMES = ("bridge_dataset", "bridge_orig")


@dataclass
class RldsReport:
    """What a folder holds and what was left out."""

    episodes: list[tuple[str, Path, int]] = field(default_factory=list)
    """Id, shard and number of the record inside it."""
    duplicates: int = 0
    """Records dropped because an earlier one is the same episode; public samples repeat train as val."""
    missing: list[str] = field(default_factory=list)
    """Shards that dataset_info.json names and the folder lacks."""
    black: list[str] = field(default_factory=list)
    """Cameras dropped because they are black in every episode."""
    rewarded: bool = False
    """Whether any reward is positive; if none is, success is unlabelled rather than false."""
    changing: int = 0
    """Episodes in which the instruction changes."""
    left_out: list[str] = field(default_factory=list)
    """Features that are not read, each with the reason."""

    def warnings(self) -> list[str]:
        """One sentence for everything that was left out."""
        absent, black = ", ".join(self.missing[:4]), ", ".join(self.black)
        told = {
            f"{len(self.missing)} shards named in dataset_info.json are absent: {absent}": self.missing,
            f"{self.duplicates} episodes occur twice and are read once": self.duplicates,
            f"cameras dropped, black in every episode: {black}": self.black,
            "no reward is above 0: success is taken as unlabelled": not self.rewarded,
            f"the instruction changes inside {self.changing} episodes, whose first one is kept": self.changing,
        }
        return [sentence for sentence, holds in told.items() if holds] + self.left_out


@SOURCES.register("rlds")
class Rlds(Foreign):
    """``rlds:FOLDER`` with features.json, dataset_info.json and the shards of one version of a data set."""

    version = 3

    @cached_property
    def layout(self) -> Layout:
        file = self.path / "features.json"
        shards, features = self._shards, read_features(file)
        layout = lay_out(features, Names.parse(self.config.features), DIALECT, str(file))
        if not self._present:
            raise DataError(self._nothing([*shards]))
        return layout

    @property
    def name(self) -> str:
        return self._listed[0]

    @property
    def _shards(self) -> dict[str, int]:
        return self._listed[1]

    @cached_property
    def _listed(self) -> tuple[str, dict[str, int]]:
        return read_shards(self.path)

    @property
    def _present(self) -> list[Path]:
        return [self.path / name for name in self._shards if (self.path / name).is_file()]

    def _nothing(self, shards: list[str]) -> str:
        others = sorted(p.name for p in self.path.glob("*-of-*"))
        if any("tfrecord" not in name for name in others):
            return f"{self.path}: {others[0]} isn't a TFRecord file, and no other container is supported"
        names = ", ".join(shards[:4])
        return f"{self.path} holds none of its shards ({names or 'every split is empty'}). Copy them there."

    def _known_spec(self) -> ActionSpec:
        """RLDS doesn't say what an action means; BridgeData V2 alone is known by itself."""
        if not self.name.startswith("bridge"):
            raise self._untold(self._sample, "")
        if not (differences := self._unlike_bridge()):
            return BRIDGE_SPEC
        why = f". Its name alone doesn't make it BridgeData V2: {'; '.join(differences)}"
        raise self._untold(self._sample, why)

    def _unlike_bridge(self) -> list[str]:
        """What keeps data of such a name from being BridgeData V2 itself, whose actions are known."""
        found = [] if self.name in _BRIDGE_NAMES else [f"{self.name!r} is not {' or '.join(_BRIDGE_NAMES)}"]
        wanted = {"image_0": self.layout.cameras, "state": self.layout.states}
        found += [f"it has no observation {name!r}" for name, leaves in wanted.items() if name not in leaves]
        shapes = {leaf.key: (leaf.dtype, leaf.shape) for leaf in [*self.layout.leaves, *self.layout.states.values()]}
        for key in ("steps/action", "steps/observation/state"):
            if key in shapes and shapes[key] != ("float32", (BRIDGE_SPEC.dims,)):
                found.append(f"{key} is {shapes[key][0]} {shapes[key][1]}, not float32 ({BRIDGE_SPEC.dims})")
        wrong = check_bounds(BRIDGE_SPEC, self._sample, "by its convention")
        return found + ([f"the actions follow another convention: {wrong.rstrip('.')}"] if wrong else [])

    @cached_property
    def _columns(self) -> list[int]:
        chosen = super()._columns
        if wrong := check_bounds(self.spec, self._sample[:, chosen], str(self.path)):
            log.warning("%s", wrong)
        return chosen

    @cached_property
    def _sample(self) -> np.ndarray:
        """(N, A) every dimension of the recorded actions of some episodes."""
        examples = islice(((_where(shard, n, e), e) for shard in self._present for n, e in _examples(shard)), SAMPLE)
        found = [self._recorded(example, where) for where, example in examples]
        return np.concatenate(found) if found else np.zeros((0, sum(leaf.size for leaf in self.layout.leaves)))

    @property
    def state_names(self) -> dict[str, list[str]]:
        bridge = {"state": [*BRIDGE_SPEC.names]} if self.spec == BRIDGE_SPEC and not self._unlike_bridge() else {}
        return super().state_names | bridge

    @property
    def total(self) -> int:
        return len(self.report.episodes)

    @property
    def notes(self) -> list[str]:
        found = self.report.warnings()
        last = [part for part in self.layout.parts if part.kind == "termination"]
        names = [name for part in self.layout.parts for name in part.names]
        unused = [name for i, name in enumerate(names) if i not in self._columns]
        if unused or last:
            found.append(f"parts of the action that the spec doesn't name: {', '.join(unused)}")
        return found

    @cached_property
    def report(self) -> RldsReport:
        """Reads everything once: checks every record's checksum, finds repeated episodes and black cameras.

        Raises:
            DataError: a shard is damaged or holds another number of records than dataset_info.json says.
        """
        report = RldsReport(left_out=[*self.layout.left_out])
        report.missing = [name for name in self._shards if not (self.path / name).is_file()]
        seen: dict[str, str] = {}
        lit: set[str] = set()
        for shard in self._present:
            number = -1
            for number, example in _examples(shard, verify=True):
                where = _where(shard, number, example)
                name, digest = _identity(example, where)
                if seen.get(name, digest) != digest:  # another episode of the same name
                    name = f"{name}@{digest}"
                report.duplicates += name in seen
                if name not in seen:
                    report.episodes.append((name, shard, number))
                    report.changing += len(self._instructions(example, where)) > 1
                seen[name] = digest
                report.rewarded |= bool(np.any(_rewards(example, where) > 0))
                dark = [camera for camera in self.layout.cameras if camera not in lit]
                lit |= {c for c in dark if not is_black(example, self.layout.cameras[c], where)}
            if number + 1 != self._shards[shard.name]:
                raise DataError(
                    f"{shard} holds {number + 1} records, but {self._shards[shard.name]} according to "
                    "dataset_info.json. Copy it again."
                )
        report.black = [camera for camera in self.layout.cameras if camera not in lit]
        return report

    def episodes(self, as_recorded: bool = False) -> Iterator[Episode]:
        """In the order of the shards, with the cameras that show something."""
        wanted = {(shard, number): name for name, shard, number in self.report.episodes}
        chosen = [*range(self._sample.shape[1])] if as_recorded else self._columns
        for shard in dict.fromkeys(shard for shard, _ in wanted):
            for number, example in _examples(shard):  # the report has verified them
                if name := wanted.get((shard, number)):
                    yield self._episode(name, shard, example, chosen)

    def _episode(self, name: str, shard: Path, example: dict[str, Value], chosen: list[int]) -> Episode:
        where = f"{shard}: episode {name!r}"
        cameras = {camera: leaf for camera, leaf in self.layout.cameras.items() if camera not in self.report.black}
        rewards = _rewards(example, where)
        return Episode(
            id=name,
            frames={camera: video(example, leaf, where) for camera, leaf in cameras.items()},
            actions=self._recorded(example, where)[:, chosen],
            instruction=next(iter(self._instructions(example, where)), ""),
            success=bool((rewards > 0).any()) if self.report.rewarded else None,
            states=flat_states({n: numbers(example, leaf, where) for n, leaf in self.layout.states.items()}),
            info={"source": "".join(_source(example, where)), "shard": shard.name},
        )

    def _recorded(self, example: dict[str, Value], where: str) -> np.ndarray:
        """(T, A) every dimension of the action, the parts side by side."""
        parts = [numbers(example, leaf, where) for leaf in self.layout.leaves]
        lengths = {leaf.key: len(part) for leaf, part in zip(self.layout.leaves, parts, strict=True)}
        if len({*lengths.values()}) > 1:
            raise DataError(f"{where}: the parts of the action differ in length: {lengths}")
        return np.concatenate([part.reshape(len(part), -1).astype(np.float32) for part in parts], axis=1)

    def _instructions(self, example: dict[str, Value], where: str) -> list[str]:
        """The different texts of the first instruction that isn't empty."""
        found = (texts(example, leaf, where) for leaf in self.layout.instructions if leaf.key in example)
        return next((kept for text in found if (kept := [*dict.fromkeys(filter(None, text))])), [])


def _examples(shard: Path, verify: bool = False) -> Iterator[tuple[int, dict[str, Value]]]:
    for number, record in enumerate(read_records(shard, verify)):
        try:
            yield number, parse_example(record)
        except DataError as error:
            raise DataError(f"{shard}: record {number}: {error}") from None


def _where(shard: Path, number: int, example: dict[str, Value]) -> str:
    where = f"{shard}: record {number}"
    return f"{where}, episode {_identity(example, where)[0]!r}"


def _identity(example: dict[str, Value], where: str) -> tuple[str, str]:
    """An episode's name, from its source file and number where given, and a hash of what it holds."""
    content = hashlib.sha256()
    for key in sorted(example):
        value = example[key]
        if key.startswith(DIALECT.observation) and isinstance(value, list) and value:
            content.update(value[0])
        elif key.startswith(DIALECT.action) or (key.startswith("steps/") and not isinstance(value, list)):
            content.update(value.tobytes() if isinstance(value, np.ndarray) else b"".join(value))
    numbered = example.get("episode_metadata/episode_id", [])
    parts = _source(example, where) + [n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in numbered]
    digest = content.hexdigest()[:12]
    return ":".join(parts) or digest, digest


def _source(example: dict[str, Value], where: str) -> list[str]:
    return texts(example, Leaf("episode_metadata/file_path", "text"), where)


def _rewards(example: dict[str, Value], where: str) -> np.ndarray:
    rewards = example.get(REWARD, [])
    if isinstance(rewards, list) and rewards:
        raise DataError(f"{where}: {REWARD!r} holds bytes; rewards are numbers")
    return np.asarray(rewards, np.float32)
