"""One registry for everything that can be added by name: encoders, metrics, data sources."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from rslwm.serialisation import ConfigError, parse_yaml

T = TypeVar("T")
_importing = threading.RLock()
_PLUGIN = "rslwm_plugin_"
"""What the names of modules begin with that :func:`import_file` made."""


class UnknownName(LookupError):
    """A name that no registry entry, entry point or file answers to; the message lists what exists."""


class Registry(Generic[T]):
    """Names to factories. An entry comes from the decorator, an installed package's entry point, or a user's file.

    ``load_builtin`` imports the modules that hold the built-in entries, on first use, so that importing the registry
    stays cheap and no import cycle arises.
    """

    def __init__(self, kind: str, group: str, load_builtin: Callable[[], object] = lambda: None) -> None:
        self.kind, self.group = kind, group
        self._load_builtin = load_builtin
        self._entries: dict[str, T] = {}
        self._loaded = False
        self._lock = threading.RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a class or function under ``name``."""

        def add(entry: T) -> T:
            if name in self._entries and _identity(self._entries[name]) != _identity(entry):
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def _load(self) -> None:
        """Import everything once. If something fails, that is the answer to every question until it is repaired."""
        with self._lock:
            if self._loaded:  # or being loaded: that may look for what is loaded already
                return
            self._loaded = True
            try:
                self._load_builtin()
                for point in entry_points(group=self.group):
                    self._entries.setdefault(point.name, self._load_plugin(point))
            except BaseException:
                self._loaded = False
                raise

    def _load_plugin(self, point: EntryPoint) -> T:
        try:
            return point.load()
        except Exception as error:
            package = f" of the package {point.dist.name}" if point.dist else ""
            reason = f"{type(error).__name__}: {error} ({point.value}); repair or uninstall that package"
            raise ConfigError(f"the {self.kind} {point.name!r}{package} can't be loaded: {reason}") from error

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def get(self, name: str) -> T:
        """The entry called ``name``, or the class that ``path/to/file.py:Class`` names.

        Raises:
            UnknownName: nothing answers to that name; the message lists what does.
            ConfigError: an installed plug-in can't be imported.
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


_REFERENCE = re.compile(r"(?P<name>[^\[\]]+?)(?:\[(?P<options>[^\[\]]*)\])?")


def split(reference: str, where: str, examples: str) -> tuple[str, dict[str, Any]]:
    """The name of an entry, a file's with its whole path, and its options, from ``NAME[FIELD=VALUE,...]``; ``where`` is
    the field that it stands in, and the message shows the ``examples``.

    Raises:
        ConfigError: the text has another form.
    """
    match = _REFERENCE.fullmatch(reference.strip())
    if match is None:
        raise ConfigError(f"{where}: {reference!r} is not of the form NAME[FIELD=VALUE,...], for instance {examples}")
    name, options = match["name"], {}
    if ".py:" in name:
        path, _, attribute = name.rpartition(":")
        name = f"{Path(path).expanduser().resolve()}:{attribute}"
    for part in filter(str.strip, (match["options"] or "").split(",")):
        field, equals, value = (word.strip() for word in part.partition("="))
        if not (field and equals and value):
            raise ConfigError(f"{where}: {reference!r}: {part!r} is not of the form FIELD=VALUE, such as windows=48")
        options[field] = parse_yaml(value, f"{where}: {part!r}")
    return name, options


def import_below(*names: str) -> None:
    """Import these modules and every one of those that are packages: what is in them registers itself."""
    for name in names:
        folder = getattr(importlib.import_module(name), "__path__", [])
        for module in pkgutil.iter_modules(folder, f"{name}."):
            importlib.import_module(module.name)


def _identity(entry: Any) -> Any:
    """The same for what a module registers again when its import is tried a second time."""
    module, name = getattr(entry, "__module__", ""), getattr(entry, "__qualname__", "<>")
    return entry if "<" in name else (module, name)


def code_of(entry: Any) -> str:
    """`` by `` and a hash of the code that a plug-in is in; empty for what is ours, which declares a version.

    That is its file and what this imports of the same package or, where it is in none, from the same folder.
    """
    if entry.__module__.startswith(f"{__package__}."):
        return ""
    path, package = Path(inspect.getfile(entry)), sys.modules[entry.__module__].__package__ or ""
    own, found, unread = package.partition(".")[0], {path: package}, [path]
    while unread:
        file = unread.pop()
        for name in _imported(file, found[file]):
            near = name.partition(".")[0] == own if own else "." not in name
            beside = _file_of(name) if near else None
            if beside and beside not in found and (own or beside.parent == path.parent):
                found[beside] = name if beside.name == "__init__.py" else name.rpartition(".")[0]
                unread.append(beside)
    first, *others = found
    code = b"".join(file.read_bytes() for file in [first, *sorted(others)])
    return f" by {hashlib.sha256(code).hexdigest()[:12]}"


def _imported(file: Path, package: str) -> Iterator[str]:
    """Names of the modules that a file of a package imports, at its top or later, and of what it imports from them."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            origin = importlib.util.resolve_name(origin, package) if node.level else origin
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        yield from names


def _file_of(module: str) -> Path | None:
    """Where the source of a module is; None for what is no module, or has none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def import_file(path: Path) -> ModuleType:
    """Import a Python file from anywhere, once a process; raises :class:`UnknownName` if it does not exist."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise UnknownName(f"{path} does not exist (asked for as a plug-in file)")
    name = f"{_PLUGIN}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    with _importing:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(sys.modules[name])
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


def imported_files() -> dict[str, Path]:
    """The files that :func:`import_file` has imported, by the names of their modules."""
    modules = [(name, module) for name, module in [*sys.modules.items()] if name.startswith(_PLUGIN)]
    return {name: Path(module.__file__) for name, module in modules if module.__file__}
