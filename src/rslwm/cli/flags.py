"""Command lines from dataclasses: every field is a flag, its docstring the help, a preset's value the default."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from rslwm.config import PRESETS, StudyConfig
from rslwm.serialisation import ConfigError, load


class Command(Protocol):
    """A dataclass: its fields are the flags, its docstring is the help."""

    def run(self) -> int | None:
        """Do it; the exit code, if it isn't 0."""
        ...


C = TypeVar("C", bound=Command)

PRESET = tyro.conf.arg(metavar="PRESET|CONFIG.yaml")


@dataclass
class StudyCommand:
    """A command that starts from a preset or a file, every field of which is a flag."""

    study: Annotated[tyro.conf.Positional[str], PRESET]
    """A preset (see below), or a YAML file such as the config.yaml of a run; fields left out keep their defaults."""
    config: Annotated[StudyConfig, tyro.conf.arg(name="")]

    @property
    def name(self) -> str:
        """Of the preset or the file; ``runs/demo/config.yaml`` is called demo, so that repeating a run finds it."""
        path = Path(self.study)
        return path.resolve().parent.name if path.name == "config.yaml" else path.stem


def parse(command: type[C], prog: str, arguments: Sequence[str]) -> C:
    """An instance of ``command`` from a command line.

    Raises:
        ConfigError: no such preset or file.
        SystemExit: 0 after ``--help``, 2 for a line that can't be parsed.
    """
    words, default = list(arguments), None
    description = inspect.cleandoc(command.__doc__ or "")
    if issubclass(command, StudyCommand):
        words = [_long(word) for word in words]
        name = next((word for word in words if word in PRESETS or word.endswith((".yaml", ".yml"))), "")
        description += f"\n\nPresets: {', '.join(PRESETS)}. --data URI is short for --data.uri URI."
        default = command(tyro.MISSING, _start(name) if name else StudyConfig())
    parsed = tyro.cli(
        command, prog=prog, description=description, args=words, default=default, registry=LISTS,
        config=(tyro.conf.FlagCreatePairsOff,),
    )  # fmt: skip
    if isinstance(parsed, StudyCommand) and parsed.study != name:
        _start(parsed.study)
        raise ConfigError(f"{parsed.study!r} must be the first argument")
    assert parsed is not None
    return parsed


def _long(word: str) -> str:
    return "--data.uri" + word.removeprefix("--data") if word == "--data" or word.startswith("--data=") else word


def _start(study: str) -> StudyConfig:
    if study in PRESETS:
        return PRESETS[study]
    if study.endswith((".yaml", ".yml")):
        return load(StudyConfig, Path(study))
    raise ConfigError(f"there is no preset {study!r}; presets: {', '.join(PRESETS)}. Or name a CONFIG.yaml.")


LISTS = ConstructorRegistry()


@LISTS.primitive_rule
def _comma_list(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Tuples are one word, ``a,b``: it can't swallow what follows it."""
    if get_origin(info.type) is not tuple:
        return None
    kind = get_args(info.type)[0]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="A,B,..." if kind is str else f"{kind.__name__.upper()},...",
        instance_from_str=lambda words: tuple(kind(part.strip()) for part in words[0].split(",") if part.strip()),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(str, value))],
    )
