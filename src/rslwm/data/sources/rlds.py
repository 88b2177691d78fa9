"""RLDS data sets as TFDS writes them (BridgeData V2, Open X-Embodiment), read without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from rslwm.data.conventions import check_bounds
from rslwm.data.leaves import Dialect, Layout, Leaf, Names, lay_out
from rslwm.data.sources.base import SOURCES
from rslwm.data.sources.foreign import Foreign, log
from rslwm.data.tfds import read_features, read_shards
from rslwm.data.tfrecord import Example, read_examples
from rslwm.types import ActionSpec, DataError, Episode, end_effector_spec

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
SAMPLE = 64  # episodes whose actions are looked at to tell whether a convention can be theirs

BRIDGE_SPEC = end_effector_spec(0.05, 0.25, hz=5.0)
"""BridgeData V2's actions; its control rate is 5 Hz, which RLDS has no place for (arXiv 2308.12952)."""
_BRIDGE_NAMES = ("bridge_dataset", "bridge_orig")


@dataclass
class RldsReport:
    """What a folder holds, and what of it isn't read."""

    episodes: dict[tuple[Path, int], str] = field(default_factory=dict)  # ids by shard and number of record
    duplicates: int = 0  # records of which an earlier one is the same episode; public samples repeat train as val
    black: list[str] = field(default_factory=list)  # cameras that are black in every episode
    rewarded: bool = False  # whether any reward is positive; if none is, success is unlabelled rather than false
    changing: int = 0  # episodes in which the instruction changes


@SOURCES.register("rlds")
class Rlds(Foreign):
    """``rlds:FOLDER`` with features.json, dataset_info.json and the shards of one version of a data set."""

    version = 3

    @cached_property
    def layout(self) -> Layout:
        file = self.path / "features.json"
        shards, features = self._shards, read_features(file)
        layout = lay_out(features, Names.parse(self.config.features), DIALECT, str(file))
        if self._present:
            return layout
        others = sorted(p.name for p in self.path.glob("*-of-*"))
        if any("tfrecord" not in name for name in others):
            raise DataError(f"{self.path}: {others[0]} isn't a TFRecord file, and no other container is supported")
        names = ", ".join([*shards][:4]) or "every split is empty"
        raise DataError(f"{self.path} holds none of its shards ({names}). Copy them there.")

    @cached_property
    def name(self) -> str:
        return read_shards(self.path)[0]

    @cached_property
    def _shards(self) -> dict[str, int]:
        return read_shards(self.path)[1]

    @cached_property
    def _present(self) -> list[Path]:
        return [self.path / name for name in self._shards if (self.path / name).is_file()]

    def _known_spec(self) -> ActionSpec:
        """RLDS doesn't say what an action means; BridgeData V2 alone is known by itself."""
        if not self.name.startswith("bridge"):
            raise self._untold(self._sample, "")
        if wrong := "; ".join(self._unlike_bridge()):
            raise self._untold(self._sample, f". Its name alone doesn't make it BridgeData V2: {wrong}")
        return BRIDGE_SPEC

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
        examples = (example for shard in self._present for example in read_examples(shard))
        found = [self._recorded(example) for example in islice(examples, SAMPLE)]
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
        report, missing = self.report, [name for name in self._shards if self.path / name not in self._present]
        told = {
            f"{len(missing)} shards named in dataset_info.json are absent: {', '.join(missing[:4])}": missing,
            f"{report.duplicates} episodes occur twice and are read once": report.duplicates,
            f"cameras dropped, black in every episode: {', '.join(report.black)}": report.black,
            "no reward is above 0: success is taken as unlabelled": not report.rewarded,
            f"the instruction changes inside {report.changing} episodes, whose first one is kept": report.changing,
        }
        found = [sentence for sentence, holds in told.items() if holds] + self.layout.left_out
        names = [name for part in self.layout.parts for name in part.names]
        if unused := [name for i, name in enumerate(names) if i not in self._columns]:
            found.append(f"parts of the action that the spec doesn't name: {', '.join(unused)}")
        return found

    @cached_property
    def report(self) -> RldsReport:
        """Reads everything once: checks every record's checksum, finds repeated episodes and black cameras. Raises
        DataError: a shard is damaged or holds another number of records than dataset_info.json says."""
        report = RldsReport()
        seen: dict[str, str] = {}
        lit: set[str] = set()
        for shard in self._present:
            number = -1
            for number, example in enumerate(read_examples(shard, verify=True)):
                name = example.name
                if seen.get(name, example.digest) != example.digest:  # another episode of the same name
                    name = f"{name}@{example.digest}"
                report.duplicates += name in seen
                if name not in seen:
                    report.episodes[shard, number] = name
                    report.changing += len(self._instructions(example)) > 1
                seen[name] = example.digest
                report.rewarded |= bool((example.rewards > 0).any())
                dark = {camera: leaf for camera, leaf in self.layout.cameras.items() if camera not in lit}
                lit |= {camera for camera, leaf in dark.items() if not example.is_black(leaf)}
            if number + 1 != self._shards[shard.name]:
                expected = f"{self._shards[shard.name]} according to dataset_info.json"
                raise DataError(f"{shard} holds {number + 1} records, but {expected}. Copy it again.")
        report.black = [camera for camera in self.layout.cameras if camera not in lit]
        return report

    def episodes(self, as_recorded: bool = False, first: int = 0) -> Iterator[Episode]:
        """In the order of the shards, with the cameras that show something."""
        wanted = dict(islice(self.report.episodes.items(), first, None))
        chosen = [*range(self._sample.shape[1])] if as_recorded else self._columns
        for shard in dict.fromkeys(shard for shard, _ in wanted):
            for number, example in enumerate(read_examples(shard)):  # the report has verified them
                if name := wanted.get((shard, number)):
                    actions, text = self._recorded(example)[:, chosen], next(iter(self._instructions(example)), "")
                    info = {"source": "".join(example.source), "shard": shard.name}
                    yield self._episode(example, name, actions, text, self.report.rewarded, **info)

    @property
    def _cameras(self) -> dict[str, Leaf]:
        return {camera: leaf for camera, leaf in self.layout.cameras.items() if camera not in self.report.black}

    def _instructions(self, example: Example) -> list[str]:
        """The different texts of the first instruction that isn't empty."""
        found = (example.texts(leaf) for leaf in self.layout.instructions if leaf.key in example.values)
        return next((kept for text in found if (kept := [*dict.fromkeys(filter(None, text))])), [])
