"""Which code makes which result. A version declared beside it is part of stage keys; this finds the ones not raised.

Every stage, metric, encoder and planner has a digest of the code that it reaches: its own and, name by name,
what that uses of this package. Comments, docstrings and layout don't count, nor does code of the engine and of the
configuration, whose values are in the keys themselves. The digests are noted in ``versions.json`` beside this file.

After a change that a test finds:
  python tools/versions.py                       results changed, and the versions were raised: note the digests
  python tools/versions.py --results-unchanged   they are the same to the last digit: note them all the same
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from rslwm.run.stage import Stage

PACKAGE = "rslwm"
NOTED = Path(__file__).with_name("versions.json")
NO_RESULT = {
    *(f"{PACKAGE}.{name}" for name in ("serialisation", "registry", "caches", "processes", "study.config")),
    *(f"{PACKAGE}.train.{name}" for name in ("log", "checkpoint")),
    f"{PACKAGE}.run.stage",
}
"""Modules that no result depends on, or only through values that are in the keys."""
OWN_VERSIONS = {(f"{PACKAGE}.evals.base", "METRICS"), (f"{PACKAGE}.latents.base", "ENCODERS")}
"""Registries whose entries have versions of their own; what names another one leads to all of that one's entries."""

Definition = tuple[str, str]
"""A module and a name defined at its top; the empty name stands for all of it."""


@dataclass
class Module:
    """The top level of a module: its definitions, and where the names come from that it imports."""

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Definition] = field(default_factory=dict)
    _shapes: dict[str, str] = field(default_factory=dict)
    _uses: dict[str, list[Definition]] = field(default_factory=dict)

    def shape(self, name: str) -> str:
        """Hash of a definition."""
        if name not in self._shapes:
            text = repr([_shape(statement) for statement in self.definitions[name]])
            self._shapes[name] = hashlib.sha256(text.encode()).hexdigest()
        return self._shapes[name]

    def uses(self, name: str) -> list[Definition]:
        """What a definition names."""
        if name not in self._uses:
            self._uses[name] = [use for statement in self.definitions[name] for use in _uses(statement, self)]
        return self._uses[name]


@cache
def parse(name: str) -> Module:
    """A module of this package."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return read(name, Path(spec.origin).read_text())


def read(name: str, source: str) -> Module:
    """A module from its source."""
    module = Module(name)
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            module.imports |= _imported(statement)
        for defined in _names(statement):
            module.definitions.setdefault(defined, []).append(statement)
    return module


def _names(statement: ast.stmt) -> list[str]:
    """What a statement defines; the empty name for what it only does."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    said = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    checked = isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test)
    return [] if said or checked or isinstance(statement, ast.Import | ast.ImportFrom) else [""]


def _imported(statement: ast.Import | ast.ImportFrom) -> dict[str, Definition]:
    """The names that an import of ours binds: each a module, or a definition in one."""
    if isinstance(statement, ast.Import):
        return {alias.asname or alias.name: (alias.name, "") for alias in statement.names if _ours(alias.name)}
    origin = statement.module or ""
    if not _ours(origin):
        return {}
    found = {}
    for alias in statement.names:
        module = f"{origin}.{alias.name}"
        place = (module, "") if origin == PACKAGE or _is_module(module) else (origin, alias.name)
        found[alias.asname or alias.name] = place
    return found


def _ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


@cache
def _is_module(name: str) -> bool:
    if not _ours(name) or not name.replace(".", "").isidentifier():
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


def reached(start: Definition) -> set[Definition]:
    """Every definition of this package that a definition leads to, itself included."""
    found: set[Definition] = set()
    waiting = [start]
    while waiting:
        place = waiting.pop()
        module, name = place
        if place in found or module in NO_RESULT or name.endswith("Config") or not _is_module(module):
            continue
        if name.endswith("Stage") and place != start:  # in the key as a need of its own
            continue
        found.add(place)
        parsed = parse(module)
        waiting += _entries(place)
        if name and name not in parsed.definitions:  # passed on from where it is defined
            waiting += [parsed.imports[name]] if name in parsed.imports else []
            continue
        for defined in parsed.definitions if not name else [name]:
            waiting += parsed.uses(defined)
    return found


def _entries(place: Definition) -> list[Definition]:
    """The modules that register something with a registry: those beside it that import it."""
    module, name = place
    statements = (s for s in parse(module).definitions.get(name, []) if isinstance(s, ast.Assign | ast.AnnAssign))
    if place in OWN_VERSIONS or not any("Registry(" in ast.unparse(s) for s in statements):
        return []
    package = module.rpartition(".")[0]
    siblings = (f"{package}.{found.name}" for found in pkgutil.iter_modules(import_module(package).__path__))
    return [(sibling, "") for sibling in siblings if place in parse(sibling).imports.values()]


def _uses(statement: ast.stmt, module: Module) -> Iterator[Definition]:
    """What a statement names of its own module and of others. ``a.b`` of an imported module ``a`` is its ``b``."""
    whole, imports = set[ast.Name](), dict(module.imports)
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _imported(node)
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            place = imports.get(node.value.id)
            if place and not place[1]:
                whole.add(node.value)
                yield place[0], node.attr
        elif isinstance(node, ast.Constant) and _is_module(str(node.value)):
            yield str(node.value), ""  # imported by its name
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and node not in whole:
            if node.id in imports:
                yield imports[node.id]
            elif node.id in module.definitions:
                yield module.name, node.id


def digest(start: Definition) -> str:
    """16 digits of all code that a definition leads to."""
    sha = hashlib.sha256()
    for module, name in sorted(reached(start)):
        parsed = parse(module)
        for defined in sorted(parsed.definitions) if not name else [name]:
            if defined in parsed.definitions:
                sha.update(f"{module} {defined} {parsed.shape(defined)}".encode())
    return sha.hexdigest()[:16]


def _shape(node: Any) -> Any:
    """A syntax tree as nested lists, without what is only said; the same in every version of Python."""
    if isinstance(node, list):
        return [_shape(child) for child in node if not _is_text(child)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, getattr(node, name, None)) for name in node._fields if name not in ("ctx", "kind", "type_comment"))
    return [type(node).__name__, *([name, _shape(value)] for name, value in fields if value not in (None, []))]


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


# -------------------------------------------------------------------------------------------------- what has a version


def current() -> dict[str, dict[str, Any]]:
    """Version and digest of everything of ours that has a version, by kind and name."""
    from rslwm.evals.base import METRICS
    from rslwm.latents.base import ENCODERS
    from rslwm.study import stages

    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(stages.__path__, f"{stages.__name__}."):
        defined = vars(import_module(module.name)).values()
        found |= {f"stage {x.kind}": x for x in defined if is_stage(x) and x.__module__ == module.name}
    found |= {f"metric {name}": METRICS.get(name) for name in METRICS}
    found |= {f"encoder {name}": ENCODERS.get(name) for name in ENCODERS}
    return {
        name: {"version": thing.version, "digest": digest((thing.__module__, thing.__qualname__))}
        for name, thing in sorted(found.items())
        if _ours(thing.__module__)
    }


def is_stage(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Stage) and isinstance(getattr(thing, "kind", None), str)


def noted() -> dict[str, dict[str, Any]]:
    """What :func:`current` was when it was noted last."""
    return json.loads(NOTED.read_text()) if NOTED.is_file() else {}


def unraised() -> list[str]:
    """Names of what has other code than was noted, and the same version."""
    now, then = current(), noted()
    return [
        name
        for name, entry in now.items()
        if name in then and entry["digest"] != then[name]["digest"] and entry["version"] <= then[name]["version"]
    ]


def main(arguments: list[str]) -> int:
    """Note versions and digests, unless a version should have been raised."""
    if (same := unraised()) and arguments != ["--results-unchanged"]:
        print(f"the code behind these has changed, and their versions haven't: {', '.join(same)}\n")
        print((__doc__ or "").partition("After a change")[2].partition("\n")[2])
        return 1
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in current().items())
    NOTED.write_text(f"{{\n{lines}\n}}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
