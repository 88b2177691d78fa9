"""Configurations as YAML and back, strictly, and as a hash of their content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

C = TypeVar("C")


class ConfigError(ValueError):
    """A configuration that can't be run; the message names the field, the value and the remedy."""


_IN_KEY, _BY_NAME = "in key", "by name"
Part = Callable[[Any], Any]


def known_by(part: Part) -> dict[str, Part]:
    """Metadata of a dataclass field of which only ``part(value)`` determines a result, such as a path that leads to
    content which is hashed elsewhere."""
    return {_IN_KEY: part}


def named_by(name: Part, find: Part) -> dict[str, tuple[Part, Part]]:
    """Metadata of a dataclass field whose value is written as ``name(value)`` and read as ``find`` of that."""
    return {_BY_NAME: (name, find)}


OPERATIONAL = known_by(lambda value: None)
"""Metadata of a dataclass field that changes how a result is come by, and not what it is."""
UNNAMED: dict[str, None] = {_IN_KEY: None}
"""As :data:`OPERATIONAL`, of a field that keys don't even name: it is younger than results that are on record."""


def to_dict(config: Any, only: Container[str] | None = None) -> Any:
    """A dataclass, or only these fields of it, as plain JSON/YAML types; a whole number in a float's place becomes the
    float that is read back."""
    return _plain(config, True, only)


def determining(config: Any, only: Container[str] | None = None) -> Any:
    """:func:`to_dict` of what determines a result, see :data:`OPERATIONAL`, :data:`UNNAMED` and :func:`known_by`."""
    return _plain(config, False, only)


def _plain(config: Any, whole: bool, only: Container[str] | None = None) -> Any:
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = [f for f in dataclasses.fields(config) if only is None or f.name in only]
        fields = [f for f in fields if whole or f.metadata.get(_IN_KEY, _plain) is not None]
        return {f.name: _plain(_value(f, getattr(config, f.name), whole), whole) for f in fields}
    if isinstance(config, tuple | list):
        return [_plain(v, whole) for v in config]
    if isinstance(config, dict):
        return {k: _plain(v, whole) for k, v in config.items()}
    return config


def _value(declared: dataclasses.Field, value: Any, whole: bool) -> Any:
    if declared.type in (float, "float") and type(value) is int:
        value = float(value)
    if _BY_NAME in declared.metadata:
        return declared.metadata[_BY_NAME][0](value)
    return value if whole or _IN_KEY not in declared.metadata else declared.metadata[_IN_KEY](value)


def from_dict(cls: type[C], values: dict[str, Any], where: str = "") -> C:
    """The inverse of :func:`to_dict`; raises :class:`ConfigError` for a field that is unknown, missing or of the wrong
    type."""
    hints = typing.get_type_hints(cls)
    here, values = where or cls.__name__, dict(values)
    if unknown := sorted(values.keys() - hints.keys(), key=str):
        raise ConfigError(f"{here}: unknown field {unknown[0]!r}; known: {', '.join(sorted(hints))}")
    for f in dataclasses.fields(typing.cast(Any, cls)):
        if _BY_NAME in f.metadata and f.name in values:
            values[f.name], hints[f.name] = f.metadata[_BY_NAME][1](values[f.name]), Any
        if f.name not in values and f.default is f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{here}: field {f.name!r} is missing; it has no default")
    return cls(**{name: _parse(hints[name], value, f"{where}.{name}".lstrip(".")) for name, value in values.items()})


def with_options(config: C, options: Mapping[str, Any], where: str, text: str) -> C:
    """The config with these values in the places of its fields; a dot leads to a field of a field, ``plan.horizon``.
    ``text`` is what the options were read from, in the field ``where``.

    Raises:
        ConfigError: an option is no field, or of another type.
    """
    values = to_dict(config)
    for key, value in options.items():
        *path, last = key.split(".")
        place = values
        for part in path:
            place = place.get(part, {})
        if last not in place or isinstance(place[last], dict):
            known = ", ".join(_names(values)) or "it has none"
            raise ConfigError(f"{where}: {text!r}: no setting {key!r}; known: {known}")
        place[last] = [value] if isinstance(place[last], list) else value
    return from_dict(type(config), values, f"{where}: {text.partition('[')[0]}")


def _names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield from _names(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]


def _parse(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        hints = [hint for hint in args if hint is not type(None)]  # one, or a list and something else
        several = isinstance(value, list | tuple)
        return _parse(next((h for h in hints if (typing.get_origin(h) is tuple) == several), hints[0]), value, where)
    if hint is Any:
        return value
    if (nested := dataclasses.is_dataclass(hint)) or origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, got {shown(value)}")
        if nested:
            return from_dict(typing.cast(type, hint), value, where)
        return {_parse(args[0], k, where): _parse(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {shown(value)}")
        members = (args[0],) * len(value) if args[1:] == (...,) else args
        if len(members) != len(value):
            raise ConfigError(f"{where}: expected {len(members)} values, got {shown(value)}")
        return tuple(_parse(hint, v, f"{where}[{i}]") for i, (hint, v) in enumerate(zip(members, value, strict=True)))
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where}: {shown(value)} is not one of {', '.join(map(repr, args))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > sys.float_info.max:
            raise ConfigError(f"{where}: {shown(value)} is too large for a number")
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        remedy = " (YAML reads 1e-3 as text; write 1.0e-3)" if hint is float and isinstance(value, str) else ""
        raise ConfigError(f"{where}: expected {hint.__name__}, got {shown(value)}{remedy}")
    return value


_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)
"""What else PyYAML raises for text that isn't as it should be, such as a date in a thirteenth month."""


def shown(value: Any) -> str:
    """For a message: a value of any size in a few words."""
    short = reprlib.Repr()
    short.maxlist = short.maxtuple = short.maxdict = 20
    short.maxstring = short.maxother = 200
    return short.repr(value)


def dump(config: Any, path: Path) -> None:
    """Write a configuration as YAML."""
    path.write_text(yaml.safe_dump(to_dict(config), sort_keys=False, width=120))


def load(cls: type[C], path: Path) -> C:
    """Read a configuration written by :func:`dump` (fields left out keep their defaults); raises what
    :func:`from_dict` raises, also if the file is missing or holds no mapping."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping, got {type(values).__name__}")
    try:
        return from_dict(cls, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, of plain types. Raises :class:`ConfigError`: there is no such file, or it isn't YAML."""
    try:
        return parse_yaml(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None


def parse_yaml(text: str | bytes, where: str) -> Any:
    """As :func:`read_yaml`, of a text that stands ``where``."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise ConfigError(f"{where} is not YAML: {error}") from None


def content_hash(*parts: Any) -> str:
    """A 12-digit key of anything :func:`to_dict` can write; equal content gives equal keys in every process."""
    text = json.dumps([to_dict(p) for p in parts], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
