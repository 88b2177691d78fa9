"""HDF5 files as robomimic and LIBERO write them, through h5py, which is an extra: ``rslwm[hdf5]``.

A file holds ``data/demo_N`` with ``actions``, ``rewards`` and ``obs/*``, all of a demonstration's steps one behind the
other, and in the attributes of ``data`` how it was made: ``env_args``, and in LIBERO ``problem_info`` with the
instruction and ``macros_image_convention`` (robomimic, docs/datasets/overview; LIBERO, scripts/create_dataset.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.data.conventions import SIDECARS
from rslwm.data.fingerprint import files_key
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
from rslwm.data.pictures import rgb
from rslwm.data.robosuite import Convention, convention
from rslwm.data.sources.base import SOURCES
from rslwm.data.sources.foreign import Foreign, flat_states
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
        """By name.

        Raises:
            DataError: there are none.
        """
        if not self.path.exists():
            raise DataError(
                f"{self.path} does not exist; hdf5: takes a file or a folder of files ({', '.join(SUFFIXES)})"
            )
        inside = (p for p in self.path.iterdir() if p.suffix in SUFFIXES) if self.path.is_dir() else [self.path]
        if not (files := sorted(inside)):
            raise DataError(f"{self.path} holds no file whose name ends in {' or '.join(SUFFIXES)}")
        return files

    @cached_property
    def _steps(self) -> dict[Path, dict[str, int]]:
        """How many steps every demonstration of every file holds."""
        found = {}
        for file in self.files:
            with opened(file) as data:
                found[file] = {name: rows_of(demo) for name, demo in data.items() if hasattr(demo, "keys")}
        return found

    @cached_property
    def _demos(self) -> dict[Path, list[str]]:
        """Those that hold steps, in the order of their numbers."""

        def numbered(name: str) -> list[int | str]:
            return [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", name)]

        return {
            file: sorted((name for name, rows in steps.items() if rows), key=numbered)
            for file, steps in self._steps.items()
        }

    def _each(self) -> Iterator[tuple[Path, str, Any, str]]:
        """File, name, content and place of every demonstration."""
        for file, demos in self._demos.items():
            with opened(file) as data:
                for name in demos:
                    yield file, name, data[name], f"{file}: data/{name}"

    @cached_property
    def layout(self) -> Layout:
        for _, _, demo, where in self._each():
            return lay_out(list(leaves_of(demo, where)), Names.parse(self.config.features), DIALECT, where)
        raise DataError(f"{self.path} holds no demonstration with steps in data/demo_*")

    @property
    def total(self) -> int:
        return sum(map(len, self._demos.values()))

    def _known_spec(self) -> ActionSpec:
        return self._convention.spec

    @cached_property
    def _convention(self) -> Convention:
        """What the recorded controller says."""
        arguments = []
        for file in self.files:
            with opened(file) as data:
                arguments.append(attribute(data, "env_args"))
        first, *others = [convention(each, self._all_actions) for each in arguments]
        plain = [leaf.key for leaf in self.layout.leaves] == [DIALECT.action]
        reason = "env_args tells of 'actions' alone" if not plain else first if isinstance(first, str) else ""
        if other := next((file for file, each in zip(self.files[1:], others, strict=True) if each != first), None):
            reason = f"env_args of {other.name} and {self.files[0].name} differ in controller or rate"
        if reason or isinstance(first, str):
            raise self._untold(self._all_actions, f": {reason}", _rate(arguments[0]))
        return first

    @cached_property
    def _all_actions(self) -> np.ndarray:
        """(N, A) every dimension of the recorded actions."""
        return np.concatenate([self._recorded(demo, where) for _, _, demo, where in self._each()])

    def _recorded(self, demo: Any, where: str) -> np.ndarray:
        """(T, A) every dimension of the action, the parts side by side."""
        parts = [read(demo, leaf, where) for leaf in self.layout.leaves]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    @cached_property
    def _labelled(self) -> bool:
        """Whether rewards say success: they are 0 and 1, and 1 somewhere."""
        rewards: set[float] = set()
        for _, _, demo, where in self._each():
            rewards |= {*np.unique(rewards_of(demo, where)).tolist()}
        return 1.0 in rewards and rewards <= {0.0, 1.0}

    @property
    def notes(self) -> list[str]:
        found = [*self.layout.left_out]
        empty = [f"{file.name}: {n}" for file, steps in self._steps.items() for n, rows in steps.items() if not rows]
        flipped: dict[str, None] = {}
        late, silent = [], []
        for file, name, demo, where in self._each():
            flipped |= {file.name: None} if upside_down(demo.parent) else {}
            late += [f"{file.name}: {name}"] if is_late(demo) else []
            silent += [name] if not self._instruction(demo, where) else []
        if empty:
            found.append(f"demonstrations without steps: {', '.join(empty)}")
        if flipped:
            found.append(f"pictures from bottom to top (macros_image_convention opengl), turned: {_some([*flipped])}")
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
        """File by file."""
        filters: dict[Path, dict[str, set[str]]] = {}
        for file, name, demo, where in self._each():
            recorded = self._recorded(demo, where)
            actions = recorded if as_recorded else self._meant(recorded)
            filters[file] = filters.get(file) or filters_of(demo.parent, file)
            keys = sorted(key for key, members in filters[file].items() if name in members)
            info = {"source": f"{file.name}:{name}", "filter_keys": keys}
            yield self._episode(demo, where, f"{file.stem}:{name}", actions.astype(np.float32), info)

    def _meant(self, recorded: np.ndarray) -> np.ndarray:
        """Recorded actions (T, A) in the spec's units."""
        return self._convention.convert(recorded) if self._given is None else recorded[:, self._columns]

    def _episode(self, demo: Any, where: str, name: str, actions: np.ndarray, info: dict[str, Any]) -> Episode:
        upright = slice(None, None, -1) if upside_down(demo.parent) else slice(None)
        frames = {n: rgb(read(demo, leaf, where)[:, upright]) for n, leaf in self.layout.cameras.items()}
        states = flat_states({n: read(demo, leaf, where) for n, leaf in self.layout.states.items()})
        seen, acted = (slice(None, -1), slice(1, None)) if is_late(demo) else (slice(None), slice(None))
        return Episode(
            id=name,
            frames={n: video[seen] for n, video in frames.items()},
            actions=actions[acted],
            instruction=self._instruction(demo, where),
            success=bool((rewards_of(demo, where) > 0).any()) if self._labelled else None,
            states={n: values[seen] for n, values in states.items()},
            info=info,
        )

    def _instruction(self, demo: Any, where: str) -> str:
        """The demonstration's own text, or the file's."""
        for leaf in self.layout.instructions:
            if leaf.kind == "text" and leaf.key in demo:
                return next(iter(texts_of(demo[leaf.key], f"{where}/{leaf.key}")), "")
        data = demo.parent
        problem, own = attribute(data, "problem_info"), attribute(demo, "ep_meta")
        candidates = [demo.attrs.get("language_instruction"), demo.attrs.get("lang"), own.get("lang")]
        candidates += [problem.get("language_instruction"), data.attrs.get("language_instruction")]
        joined = (" ".join(texts_of(found, f"{where}: the instruction")) for found in candidates)
        return next(filter(None, joined), "")


def _rate(arguments: dict[str, Any]) -> float:
    """Of control, as ``env_args`` says; 0 if it doesn't."""
    try:
        return float(arguments["env_kwargs"]["control_freq"])
    except (KeyError, TypeError, ValueError):
        return 0.0


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
