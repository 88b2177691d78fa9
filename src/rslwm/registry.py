"""One registry for everything that can be added by name: encoders, metrics, data sources."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class UnknownName(LookupError):
    """A name that no registry entry, entry point or file answers to; the message lists what exists."""


class Registry(Generic[T]):
    """Names to factories. An entry comes from the decorator, an installed package's entry point, or a user's file.

    ``load_builtin`` imports the modules that hold the built-in entries, on first use, so that importing the registry
    stays cheap and no import cycle arises.
    """

    def __init__(self, kind: str, group: str, load_builtin: Callable[[], None] = lambda: None) -> None:
        self.kind, self.group = kind, group
        self._load_builtin = load_builtin
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a class or function under ``name``."""

        def add(entry: T) -> T:
            if name in self._entries and self._entries[name] is not entry:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        self._load_builtin()
        for point in entry_points(group=self.group):
            self._entries.setdefault(point.name, point.load())

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def get(self, name: str) -> T:
        """The entry called ``name``, or the class that ``path/to/file.py:Class`` names.

        Raises:
            UnknownName: nothing answers to that name; the message lists what does.
        """
        self._load()
        if name in self._entries:
            return self._entries[name]
        if ".py:" in name:
            return self._from_file(name)
        close = difflib.get_close_matches(name, self._entries, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise UnknownName(
            f"no {self.kind} called {name!r}{hint} Known: {', '.join(self._entries)}. "
            f"Your own: path/to/file.py:Class, or an entry point in the group {self.group!r}."
        )

    def _from_file(self, reference: str) -> Any:
        path, _, attribute = reference.rpartition(":")
        module = import_file(Path(path))
        if not hasattr(module, attribute):
            public = [n for n in vars(module) if not n.startswith("_")]
            raise UnknownName(f"{path} has no {attribute!r}; it defines: {', '.join(public)}")
        return getattr(module, attribute)


def import_file(path: Path) -> ModuleType:
    """Import a Python file from anywhere, once a process.

    Raises:
        UnknownName: the file does not exist.
    """
    path = path.expanduser().resolve()
    if not path.is_file():
        raise UnknownName(f"{path} does not exist (asked for as a plug-in file)")
    name = f"rslwm_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
