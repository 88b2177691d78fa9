"""Command lines from dataclasses: every field is a flag, its docstring the help, a preset's value the default."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from rslwm.data.config import DataConfig
from rslwm.serialisation import ConfigError, load
from rslwm.study.config import FROM_SCRATCH, PRESETS, StudyConfig


class Command(Protocol):
    """A dataclass: its fields are the flags, its docstring is the help."""

    def run(self) -> int | None:
        """Do it; the exit code, if it isn't 0."""
        ...


C = TypeVar("C", bound=Command)


@dataclass(kw_only=True)
class DataFlags:
    """How to read data that don't say what they hold."""

    features: Annotated[tuple[str, ...], tyro.conf.arg(name="data.features", aliases=("--features",))] = ()
    """Features that the data call otherwise, each as OURS=THEIRS: action=actions,observation.images.front=image."""
    action_spec: Annotated[str, tyro.conf.arg(name="data.action-spec", aliases=("--action-spec",))] = ""
    """YAML or JSON file with the action spec of data that don't carry one."""

    def described(self, uri: str = "", camera: str = "") -> DataConfig:
        return DataConfig(uri, camera=camera, features=self.features, action_spec=self.action_spec)


PRESET = tyro.conf.arg(metavar="PRESET|CONFIG.yaml")


@dataclass
class StudyCommand:
    """A command that starts from a preset or a file, every field of which is a flag."""

    study: Annotated[tyro.conf.Positional[str], PRESET]
    """A preset (see below), or a YAML file such as the config.yaml of a run; fields left out keep their defaults."""
    config: Annotated[StudyConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder of the run; runs/PRESET if it isn't given, or runs/FILE."""
    jobs: int = 0
    """Stages that run side by side; 0 is as many as fit the cores, or the cluster. Doesn't change any result."""
    executor: str = "local"
    """Where stages run: local, in processes of this machine; 'ray[address=HOST:PORT,gpus=1]' or
    'slurm[partition=NAME,minutes=600]', on a cluster (docs/cluster.md); or path/to/file.py:Class, one of your own."""
    cache: str = ""
    """Finished stages that machines share: s3://BUCKET/PATH, gs://, hf://, or a folder. A stage that is there is
    fetched instead of made, and one that is made is pushed there (docs/runs.md)."""

    from_scratch: bool = False
    """Train the latent spaces of the preset, where it would take shipped ones. Data that aren't the simulator's do that
    by themselves."""

    of_spaces: ClassVar[bool] = False
    """Whether the first word may also be latent spaces, comma separated: those of the demo preset are replaced."""

    @property
    def name(self) -> str:
        """Of the preset or the file; ``runs/demo/config.yaml`` is called demo, so that repeating a run finds it."""
        path = Path(self.study)
        return path.resolve().parent.name if path.name == "config.yaml" else path.stem

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.out or Path("runs") / self.name


def parse(command: type[C], prog: str, arguments: Sequence[str]) -> C:
    """An instance of ``command`` from a command line. Raises :class:`ConfigError` for no preset or file, and
    :class:`SystemExit`: 0 after ``--help``, 2 for a line that can't be parsed."""
    words, default = list(arguments), None
    description = inspect.cleandoc(command.__doc__ or "")
    if issubclass(command, StudyCommand):
        words = [_long(word) for word in words]
        name = _named(command, words)
        description += f"\n\nPresets: {', '.join(PRESETS)}. --data URI is short for --data.uri URI."
        default = command(tyro.MISSING, _start(command, name, _scratch(words)) if name else StudyConfig())
    parsed = tyro.cli(
        command, prog=prog, description=description, args=words, default=default, registry=LISTS,
        config=(tyro.conf.FlagCreatePairsOff,),
    )  # fmt: skip
    if isinstance(parsed, StudyCommand) and parsed.study != name:
        _start(command, parsed.study, parsed.from_scratch)
        raise ConfigError(f"{parsed.study!r} must be the first argument")
    if isinstance(parsed, StudyCommand) and parsed.from_scratch and parsed.study not in PRESETS:
        raise ConfigError(f"--from-scratch: {parsed.study} is no preset, and names its spaces itself (--latents)")
    assert parsed is not None
    return parsed


def _long(word: str) -> str:
    return "--data.uri" + word.removeprefix("--data") if word == "--data" or word.startswith("--data=") else word


def _named(command: type[StudyCommand], words: list[str]) -> str:
    """The word that says what to start from."""
    if command.of_spaces and words and not words[0].startswith("-"):
        return words[0]
    return next((word for word in words if word in PRESETS or word.endswith((".yaml", ".yml"))), "")


def _scratch(words: list[str]) -> bool:
    """Whether spaces are to be trained that a preset would take from among the shipped: those are the simulator's."""
    data = [after for word, after in pairwise(words) if word == "--data.uri"]
    data += [word.partition("=")[2] for word in words if word.startswith("--data.uri=")]
    return "--from-scratch" in words or any(not uri.startswith("sim:") for uri in data)


def _start(command: type[StudyCommand], study: str, scratch: bool) -> StudyConfig:
    if study in PRESETS:
        return (FROM_SCRATCH if scratch else PRESETS)[study]
    if study.endswith((".yaml", ".yml")):
        return load(StudyConfig, Path(study))
    if command.of_spaces:
        return replace(FROM_SCRATCH["demo"], latents=_parts(study))
    raise ConfigError(f"there is no preset {study!r}; presets: {', '.join(PRESETS)}. Or name a CONFIG.yaml.")


LISTS = ConstructorRegistry()
_OUTSIDE = re.compile(r",(?![^\[]*\])")
"""Commas, but not those of ``sd3-vae[shift=no,posterior=sample]``."""


def _parts(word: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in _OUTSIDE.split(word) if part.strip())


@LISTS.primitive_rule
def _comma_list(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Tuples are one word, ``a,b``: it can't swallow what follows it."""
    if get_origin(info.type) is not tuple:
        return None
    kind = get_args(info.type)[0]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="A,B,..." if kind is str else f"{kind.__name__.upper()},...",
        instance_from_str=lambda words: tuple(map(kind, _parts(words[0]))),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(str, value))],
    )
