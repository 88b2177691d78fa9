"""HDF5 files as robomimic and LIBERO write them, through h5py, which is an extra: ``rslwm[hdf5]``.

A file holds ``data/demo_N`` with ``actions``, ``rewards`` and ``obs/*``, all of a demonstration's steps one behind the
other, and in the attributes of ``data`` how it was made: ``env_args``, and in LIBERO ``problem_info`` with the
instruction and ``macros_image_convention`` (robomimic, docs/datasets/overview; LIBERO, scripts/create_dataset.py).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.data.hdf5_file import (
    attribute,
    filters_of,
    is_late,
    leaves_of,
    opened,
    read,
    rewards_of,
    rows_of,
    texts_of,
    upside_down,
)
from rslwm.data.leaves import Dialect, Layout, Names, lay_out
from rslwm.data.parts import SIDECARS, columns, given_spec, untold
from rslwm.data.pictures import rgb
from rslwm.data.robosuite import Convention, convention
from rslwm.serialisation import content_hash
from rslwm.types import ActionSpec, DataError, Episode

SUFFIXES = (".hdf5", ".h5")
DIALECT = Dialect(action="actions", observation="obs/", ignored=("rewards", "dones"), instructed=True)
VERSION = 2
"""Raised when the importer reads the same files otherwise, so that what it imported before isn't taken for it."""

log = logging.getLogger(__name__)


def hdf5_files(path: Path) -> Iterator[Path]:
    """The file itself, or the HDF5 files of a folder by name."""
    yield from sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]


class Hdf5Files:
    """One file of demonstrations, or a folder of them with the same cameras, states and controller.

    ``features`` and ``action_spec`` are those of :class:`rslwm.data.config.DataConfig`.

    Raises:
        DataError: h5py is missing, a file is absent, damaged or of another layout, or nothing is an action.
    """

    def __init__(self, path: Path | str, features: Sequence[str] = (), action_spec: str = "") -> None:
        self.path = Path(path)
        self.folder = self.path if self.path.is_dir() else self.path.parent
        self.name = self.path.stem
        self._features, self._action_spec = tuple(features), action_spec
        if not self.path.exists():
            raise DataError(f"{path} does not exist; hdf5: takes a file or a folder of files ({', '.join(SUFFIXES)})")
        self.files = list(hdf5_files(self.path))
        if not self.files:
            raise DataError(f"{path} holds no file whose name ends in {' or '.join(SUFFIXES)}")
        self._empty: list[str] = []
        self._demos = {file: self._list(file) for file in self.files}
        first = next((file for file, demos in self._demos.items() if demos), None)
        if first is None:
            raise DataError(f"{path} holds no demonstration with steps in data/demo_*")
        with opened(first) as data:
            where = f"{first}: data/{self._demos[first][0]}"
            leaves = list(leaves_of(data[self._demos[first][0]], where))
        self.layout: Layout = lay_out(leaves, Names.parse(features), DIALECT, where)

    def _list(self, file: Path) -> list[str]:
        """The demonstrations of a file that hold steps, in the order of their numbers."""
        with opened(file) as data:
            steps = {name: rows_of(demo) for name, demo in data.items() if hasattr(demo, "keys")}
        self._empty += [f"{file.name}: {name}" for name, rows in steps.items() if not rows]
        names = [name for name, rows in steps.items() if rows]
        return sorted(names, key=lambda name: [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", name)])

    @property
    def total(self) -> int:
        """Demonstrations that are read."""
        return sum(map(len, self._demos.values()))

    @property
    def state_names(self) -> dict[str, list[str]]:
        """Names of the states' dimensions where they are known."""
        return self.layout.state_names

    @cached_property
    def key(self) -> str:
        """Changes with name, size or modification time of any file, and with names and spec given."""
        stats = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in self.files]
        return content_hash([VERSION, stats, self._features, self.spec.to_dict()])

    @property
    def spec(self) -> ActionSpec:
        """From the file given, or one beside the data; otherwise what the recorded controller says.

        Raises:
            DataError: none of these tells. The message holds a draft.
        """
        given = self._given
        return self._convention.spec if given is None else given

    @cached_property
    def _given(self) -> ActionSpec | None:
        return given_spec(self.folder, self._action_spec)

    @cached_property
    def _convention(self) -> Convention:
        actions = self._all_actions
        found: dict[Path, Convention | str] = {}
        for file in self.files:
            with opened(file) as data:
                found[file] = convention(attribute(data, "env_args", file), actions)
        first = found[self.files[0]]
        plain = [leaf.key for leaf in self.layout.leaves] == [DIALECT.action]
        reason = "env_args tells of 'actions' alone" if not plain else first if isinstance(first, str) else ""
        if other := next((file for file, each in found.items() if each != first), None):
            reason = f"env_args of {other.name} and {self.files[0].name} differ in controller or rate"
        if reason or isinstance(first, str):
            what = ", ".join(map(str, self.layout.leaves))
            where = f"{self.path} doesn't say what its actions mean ({what}): {reason}"
            raise untold(self.layout.parts, actions, where, self.folder / SIDECARS[0], self._rate)
        return first

    @property
    def _rate(self) -> float:
        with opened(self.files[0]) as data:
            arguments = attribute(data, "env_args", self.files[0])
        try:
            return float(arguments["env_kwargs"]["control_freq"])
        except (KeyError, TypeError, ValueError):
            return 0.0

    @cached_property
    def _all_actions(self) -> np.ndarray:
        """(N, A) every dimension of the recorded actions."""
        found = []
        for file, demos in self._demos.items():
            with opened(file) as data:
                found += [self._recorded(data[demo], f"{file}: data/{demo}") for demo in demos]
        return np.concatenate(found)

    def _recorded(self, demo: Any, where: str) -> np.ndarray:
        """(T, A) every dimension of the action, the parts side by side."""
        return np.concatenate(
            [read(demo, leaf, where).reshape(rows_of(demo), -1) for leaf in self.layout.leaves], axis=1
        )

    @cached_property
    def _labelled(self) -> bool:
        """Whether rewards say success: they are 0 and 1, and 1 somewhere."""
        rewards: set[float] = set()
        for file, demos in self._demos.items():
            with opened(file) as data:
                for demo in demos:
                    rewards |= {*np.unique(rewards_of(data[demo], f"{file}: data/{demo}")).tolist()}
        return 1.0 in rewards and rewards <= {0.0, 1.0}

    @cached_property
    def notes(self) -> list[str]:
        """What is left out of the import, or turned round."""
        found = [*self.layout.left_out]
        found += [f"demonstrations without steps: {', '.join(self._empty)}"] if self._empty else []
        flipped, late, silent = [], [], []
        for file, demos in self._demos.items():
            with opened(file) as data:
                flipped += [file.name] if upside_down(data) else []
                late += [f"{file.name}: {demo}" for demo in demos if is_late(data[demo])]
                silent += [f"{file.name}: {demo}" for demo in demos if not self._instruction(data, demo, file)]
        if flipped:
            found.append(f"pictures from bottom to top (macros_image_convention opengl), turned: {_some(flipped)}")
        if late:
            found.append(
                "observations were taken after the action of their row (the joints are the next state's); each is "
                f"paired with the action that follows it, first action and last picture are left out: {_some(late)}"
            )
        if silent:
            found.append(f"no instruction in {len(silent)} of {self.total} demonstrations")
        if not self._labelled:
            found.append("rewards aren't 0 with a 1 somewhere: success is taken as unlabelled")
        return found

    def episodes(self, as_recorded: bool = False) -> Iterator[Episode]:
        """Every demonstration, file by file; ``as_recorded`` keeps actions as they are, whatever they mean."""
        for sentence in self.notes:
            log.warning("%s: %s", self.path, sentence)
        for file, demos in self._demos.items():
            with opened(file) as data:
                filters = filters_of(data.parent, file)
                for demo in demos:
                    recorded = self._recorded(data[demo], f"{file}: data/{demo}")
                    actions = recorded if as_recorded else self._meant(recorded)
                    yield self._episode(data, demo, file, filters, actions.astype(np.float32))

    def _meant(self, recorded: np.ndarray) -> np.ndarray:
        """Recorded actions (T, A) in the spec's units."""
        if self._given is None:
            return self._convention.convert(recorded)
        return recorded[:, columns(self.layout.parts, self._given, str(self.path))]

    def _episode(self, data: Any, name: str, file: Path, filters: dict[str, set[str]], actions: np.ndarray) -> Episode:
        demo, where = data[name], f"{file}: data/{name}"
        upright = slice(None, None, -1) if upside_down(data) else slice(None)
        frames = {n: rgb(read(demo, leaf, where)[:, upright]) for n, leaf in self.layout.cameras.items()}
        states = {n: read(demo, leaf, where) for n, leaf in self.layout.states.items()}
        seen, acted = (slice(None, -1), slice(1, None)) if is_late(demo) else (slice(None), slice(None))
        return Episode(
            id=f"{file.stem}:{name}",
            frames={n: video[seen] for n, video in frames.items()},
            actions=actions[acted],
            instruction=self._instruction(data, name, file),
            success=bool((rewards_of(demo, where) > 0).any()) if self._labelled else None,
            states={n: v.reshape(len(v), -1).astype(np.float32)[seen] for n, v in states.items()},
            info={
                "source": f"{file.name}:{name}",
                "filter_keys": sorted(f for f, members in filters.items() if name in members),
            },
        )

    def _instruction(self, data: Any, name: str, file: Path) -> str:
        """The demonstration's own text, or the file's."""
        demo = data[name]
        for leaf in self.layout.instructions:
            if leaf.kind == "text" and leaf.key in demo:
                return next(iter(texts_of(demo[leaf.key], f"{file}: data/{name}/{leaf.key}")), "")
        problem, own = attribute(data, "problem_info", file), attribute(demo, "ep_meta", file)
        candidates = [demo.attrs.get("language_instruction"), demo.attrs.get("lang"), own.get("lang")]
        candidates += [problem.get("language_instruction"), data.attrs.get("language_instruction")]
        where = f"{file}: data/{name}: the instruction"
        return next((text for found in candidates if (text := " ".join(texts_of(found, where)))), "")


def read_hdf5(path: Path | str, features: Sequence[str] = ()) -> Iterator[Episode]:
    """Demonstrations with their actions as recorded; :class:`Hdf5Files` also tells what they mean.

    Raises:
        DataError: see :class:`Hdf5Files`.
    """
    return Hdf5Files(path, features).episodes(as_recorded=True)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
