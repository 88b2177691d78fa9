"""HDF5 files as robomimic and LIBERO write them, through h5py, which is an extra: ``rslwm[hdf5]``.

A file holds ``data/demo_N`` with ``actions``, ``rewards`` and ``obs/*``, all of a demonstration's steps one behind the
other, and in the attributes of ``data`` how it was made: ``env_args``, and in LIBERO ``problem_info`` with the
instruction and ``macros_image_convention`` (robomimic, docs/datasets/overview; LIBERO, scripts/create_dataset.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.data.conventions import SIDECARS
from rslwm.data.fingerprint import files_key
from rslwm.data.hdf5_file import Demonstration, attribute, filters_of, groups_of, opened
from rslwm.data.leaves import Dialect, Layout, Names, lay_out
from rslwm.data.robosuite import Convention, convention
from rslwm.data.sources.base import SOURCES
from rslwm.data.sources.foreign import Foreign
from rslwm.types import ActionSpec, DataError, Episode

SUFFIXES = (".hdf5", ".h5")
DIALECT = Dialect(action="actions", observation="obs/", ignored=("rewards", "dones"), instructed=True)


@SOURCES.register("hdf5")
class Hdf5(Foreign):
    """``hdf5:FILE``, a file of demonstrations, or a folder of them with the same cameras, states and controller."""

    version = 2

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Whether a file, or what a folder holds, is named like HDF5."""
        return path.suffix in SUFFIXES or (path.is_dir() and any(p.suffix in SUFFIXES for p in path.iterdir()))

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def content(self) -> str:
        """With what lies beside a single file and says what its actions mean."""
        beside = [self.folder / name for name in SIDECARS] if self.path.is_file() else []
        return " ".join([super().content(), *(files_key(path) for path in beside if path.is_file())])

    @cached_property
    def files(self) -> list[Path]:
        """By name. Raises DataError: there are none."""
        if not self.path.exists():
            forms = f"a file or a folder of files ({', '.join(SUFFIXES)})"
            raise DataError(f"{self.path} does not exist; hdf5: takes {forms}")
        inside = (p for p in self.path.iterdir() if p.suffix in SUFFIXES) if self.path.is_dir() else [self.path]
        if not (files := sorted(inside)):
            raise DataError(f"{self.path} holds no file whose name ends in {' or '.join(SUFFIXES)}")
        return files

    def _all(self) -> Iterator[Demonstration]:
        """File by file, in the order of their numbers."""
        for file in self.files:
            with opened(file) as data:
                yield from (Demonstration(file, name, group) for name, group in groups_of(data, file))

    def _each(self) -> Iterator[Demonstration]:
        """All that hold steps."""
        return (demo for demo in self._all() if demo.rows)

    @cached_property
    def layout(self) -> Layout:
        for demo in self._each():
            return lay_out([*demo.leaves()], Names.parse(self.config.features), DIALECT, demo.where)
        raise DataError(f"{self.path} holds no demonstration with steps in data/demo_*")

    @cached_property
    def total(self) -> int:
        return sum(1 for _ in self._each())

    def _known_spec(self) -> ActionSpec:
        return self._convention.spec

    @cached_property
    def _convention(self) -> Convention:
        """What the recorded controller says."""
        arguments = {demo.file: attribute(demo.group.parent, "env_args") for demo in self._each()}
        (file, first), *others = [(file, convention(each, self._all_actions)) for file, each in arguments.items()]
        if [leaf.key for leaf in self.layout.leaves] != [DIALECT.action]:
            first = "env_args tells of 'actions' alone"
        elif other := next((other for other, each in others if each != first), None):
            first = f"env_args of {other.name} and {file.name} differ in controller or rate"
        if isinstance(first, str):
            raise self._untold(self._all_actions, f": {first}", _rate(arguments[file]))
        return first

    @cached_property
    def _all_actions(self) -> np.ndarray:
        """(N, A) every dimension of the recorded actions."""
        return np.concatenate([self._recorded(demo) for demo in self._each()])

    @cached_property
    def _labelled(self) -> bool:
        """Whether rewards say success: they are 0 and 1, and 1 somewhere."""
        rewards = {reward for demo in self._each() for reward in np.unique(demo.rewards).tolist()}
        return 1.0 in rewards and rewards <= {0.0, 1.0}

    @property
    def notes(self) -> list[str]:
        empty = [f"{demo.file.name}: {demo.name}" for demo in self._all() if not demo.rows]
        flipped = [*dict.fromkeys(demo.file.name for demo in self._each() if demo.upside_down)]
        late = [f"{demo.file.name}: {demo.name}" for demo in self._each() if demo.is_late]
        silent = sum(not demo.instruction(self._texts) for demo in self._each())
        told = {
            f"demonstrations without steps: {', '.join(empty)}": empty,
            f"pictures from bottom to top (macros_image_convention opengl), turned: {_some(flipped)}": flipped,
            "observations were taken after the action of their row (the joints are the next state's); each is paired "
            f"with the action that follows it, first action and last picture are left out: {_some(late)}": late,
            f"no instruction in {silent} of {self.total} demonstrations": silent,
            "rewards aren't 0 with a 1 somewhere: success is taken as unlabelled": not self._labelled,
        }
        return self.layout.left_out + [sentence for sentence, holds in told.items() if holds]

    def episodes(self, as_recorded: bool = False, first: int = 0) -> Iterator[Episode]:
        """File by file."""
        filters: dict[Path, dict[str, set[str]]] = {}
        for demo in islice(self._each(), first, None):
            recorded = self._recorded(demo)
            actions = recorded if as_recorded else self._meant(recorded)
            filters[demo.file] = filters.get(demo.file) or filters_of(demo.group.parent, demo.file)
            keys = sorted(key for key, members in filters[demo.file].items() if demo.name in members)
            name, text = f"{demo.file.stem}:{demo.name}", demo.instruction(self._texts)
            info = {"source": f"{demo.file.name}:{demo.name}", "filter_keys": keys}
            episode = self._episode(demo, name, actions, text, self._labelled, **info)
            if demo.is_late:
                episode.actions = episode.actions[1:]
                episode.frames = {n: video[:-1] for n, video in episode.frames.items()}
                episode.states = {n: values[:-1] for n, values in episode.states.items()}
            yield episode

    @property
    def _texts(self) -> list[str]:
        """The datasets that may hold an instruction."""
        return [leaf.key for leaf in self.layout.instructions if leaf.kind == "text"]

    def _meant(self, recorded: np.ndarray) -> np.ndarray:
        """Recorded actions (T, A) in the spec's units."""
        return self._convention.convert(recorded) if self._given is None else recorded[:, self._columns]


def _rate(arguments: dict[str, Any]) -> float:
    """Of control, as ``env_args`` says; 0 if it doesn't."""
    try:
        return float(arguments["env_kwargs"]["control_freq"])
    except (KeyError, TypeError, ValueError):
        return 0.0


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
