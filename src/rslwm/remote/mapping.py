"""What a policy's words mean: a small file says what its protocol can't, and nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rslwm.dimensions import axis
from rslwm.remote.vla_eval import Told
from rslwm.serialisation import OPERATIONAL, ConfigError, load
from rslwm.types import GRIPPERS, ActionMode, ActionSpec

Protocol = Literal["act", "openpi", "vla-eval"]
Gripper = Literal[
    "1 is open, 0 is closed", "0 is open, 1 is closed", "1 is open, -1 is closed", "-1 is open, 1 is closed"
]
Rotation = Literal["rotation_vector", "euler_xyz"]
_MOVING = ("translation", "rotation", "angle", "joint")


@dataclass(frozen=True)
class ObservationMapping:
    """What is sent. Keys with dots lead into maps: ``images.primary`` is ``{"images": {"primary": ...}}``."""

    images: dict[str, int] = field(default_factory=dict)
    """Their key: our view, counted from 0."""
    size: tuple[int, int] | None = None
    """Height and width of a picture in pixels."""
    resize: Literal["stretch", "pad"] | None = None
    """How another shape becomes this one: distorted, or with black borders as openpi does."""
    order: Literal["HWC", "CHW"] | None = None
    """Of a picture's axes."""
    prompt: str | None = None
    """Their key of the instruction."""
    states: dict[str, str] = field(default_factory=dict)
    """Their key: our name of a true state, which a world model doesn't have."""
    constants: dict[str, Any] = field(default_factory=dict)
    """Their key: what is always sent, such as ``unnorm_key``."""


@dataclass(frozen=True)
class ActionMapping:
    """What comes back, and what it means."""

    width: int | None = None
    """Numbers of one action of theirs."""
    columns: dict[str, int] = field(default_factory=dict)
    """Our dimension: their column, counted from 0."""
    ignored: tuple[int, ...] = ()
    """Their columns that nothing here is done with."""
    fixed: dict[str, float] = field(default_factory=dict)
    """Our dimension: the value in our unit that it always has, where they have no column for it."""
    scale: dict[str, float] = field(default_factory=dict)
    """Our dimension, or kind of dimension: how many of our units one of theirs is."""
    mode: ActionMode | None = None
    """What the numbers that move the robot are."""
    frame: str | None = None
    """Whose axes they are about: base, tool, joint."""
    rotation: Rotation | None = None
    """How a turn is written."""
    gripper: Gripper | None = None
    threshold: float | None = None
    """In their numbers: what is above it is the higher end of the gripper's range, the rest the lower."""
    execute: int | None = None
    """Actions of a reply that are done before the policy is asked again."""
    hz: float | None = None
    """Actions of theirs a second."""


@dataclass(frozen=True)
class PolicyMapping:
    """A policy at an address. Read from YAML, completed by what the server says of itself (:meth:`resolved`)."""

    protocol: Protocol
    address: str
    observation: ObservationMapping = field(default_factory=ObservationMapping)
    actions: ActionMapping = field(default_factory=ActionMapping)
    double_encoded: bool = False
    """Of ``act``: send {"encoded": the text of the request}, for servers without json-numpy."""
    token_env: str = field(default="", metadata=OPERATIONAL)
    """Environment variable with the token that the server wants."""
    connect_s: float = field(default=30.0, metadata=OPERATIONAL)
    """Seconds until a connection must stand; servers that warm up take long."""
    timeout_s: float = field(default=60.0, metadata=OPERATIONAL)
    """Seconds in which a whole reply must be there."""

    def resolved(self, spec: ActionSpec, told: Told | None = None) -> PolicyMapping:
        """With every convention settled for actions of ``spec``.

        Raises:
            ConfigError: neither the file nor the server says something, both do and differ, or what they say can't be
                turned into ``spec``.
        """
        found = replace(self, actions=_completed(self.actions, spec, told, self.address)) if told else self
        _require_all(found, spec)
        _require_columns(found.actions, spec)
        _require_meaning(found.actions, spec)
        found.steps(spec)
        return found

    def steps(self, spec: ActionSpec) -> int:
        """Actions of the policy in one of ``spec``. Raises ConfigError: that isn't a whole number."""
        assert self.actions.hz is not None
        ratio = self.actions.hz / spec.hz
        if ratio < 1 or abs(ratio - round(ratio)) > 1e-3:
            remedy = "Take a world whose frame skip makes that a whole number"
            rates = f"the policy acts {self.actions.hz} times a second, the world {spec.hz} times"
            raise ConfigError(f"actions.hz: {rates}: {ratio:.3g} actions of it in one of the world's. {remedy}")
        return round(ratio)


def read(path: Path) -> PolicyMapping:
    """A mapping file; raises ConfigError as :func:`rslwm.serialisation.load` does."""
    return load(PolicyMapping, path)


def _completed(mine: ActionMapping, spec: ActionSpec, told: Told, address: str) -> ActionMapping:
    """With what the server says; differing is an error that names both."""

    def differ(what: str, file: object, server: object) -> ConfigError:
        remedy = "Correct the file, or serve the policy that it means"
        return ConfigError(f"actions.{what}: the mapping file says {file!r}, {address} says {server!r}. {remedy}")

    changes: dict[str, Any] = {}
    for name in ("width", "mode", "rotation", "gripper"):
        said, stated = getattr(told, name), getattr(mine, name)
        if stated is None:
            changes[name] = said
        elif said is not None and stated != said:
            raise differ(name, stated, said)
    if mine.gripper and told.grippers and mine.gripper not in told.grippers:
        raise differ("gripper", mine.gripper, " or ".join(told.grippers))
    if not mine.columns:
        changes["columns"] = told.columns_of(spec)
    for name, column in mine.columns.items():
        kind, place = told.parts[column] if column < len(told.parts) else ("", None)
        ours = spec.kinds[spec.names.index(name)] if name in spec.names else kind
        if kind and (kind != ours or (place is not None and axis(name) not in (None, place))):
            there = kind if place is None else f"{kind} {'xyz'[place]}"
            raise differ(f"columns.{name}", f"{ours} in column {column}", f"{there} in column {column}")
    return replace(mine, **changes)


def _require_all(mapping: PolicyMapping, spec: ActionSpec) -> None:
    """Raise a ConfigError with the lines to add."""
    seen, done = mapping.observation, mapping.actions
    given = {name: kind for name, kind in zip(spec.names, spec.kinds, strict=True) if name not in done.fixed}
    kinds = {*given.values()}
    pictures = {"act": "image", "openpi": "observation/image", "vla-eval": "images.primary"}[mapping.protocol]
    prompt = {"act": "instruction", "openpi": "prompt", "vla-eval": "task_description"}[mapping.protocol]
    observation = {
        "images": (not seen.images, f"{{{pictures}: 0}}  # their key: our view"),
        "size": (seen.size is None, "[224, 224]  # height and width that it was trained with"),
        "resize": (seen.resize is None, "pad  # or stretch"),
        "order": (seen.order is None, "HWC  # or CHW"),
        "prompt": (seen.prompt is None, f"{prompt}  # their key of the instruction"),
    }
    columns = ", ".join(f"{name}: {i}" for i, name in enumerate(spec.names))
    unscaled = [k for name, k in given.items() if k in _MOVING and name not in done.scale and k not in done.scale]
    scales = ", ".join(f"{kind}: 1.0" for kind in dict.fromkeys(unscaled))
    actions = {
        "width": (done.width is None, f"{spec.dims}  # numbers of one action of theirs"),
        "columns": (not done.columns, f"{{{columns}}}  # our dimension: their column"),
        "scale": (bool(scales), f"{{{scales}}}  # our units in one of theirs"),
        "mode": (done.mode is None, "delta  # or absolute, velocity"),
        "frame": (done.frame is None, "base  # whose axes: or tool, joint"),
        "rotation": ("rotation" in kinds and done.rotation is None, "euler_xyz  # or rotation_vector"),
        "gripper": ("gripper" in kinds and done.gripper is None, f'"{get_args(Gripper)[0]}"  # or another of four'),
        "execute": (done.execute is None, "1  # actions of a reply that are done before it is asked again"),
        "hz": (done.hz is None, f"{spec.hz:g}  # actions of theirs a second"),
    }
    missing = []
    for part, lines in (("observation", observation), ("actions", actions)):
        wanted = [f"  {name}: {example}" for name, (lacks, example) in lines.items() if lacks]
        missing += [f"{part}:", *wanted] if wanted else []
    if missing:
        lines_to_add = "\n".join(missing)
        what = f"the mapping of {mapping.address} doesn't say what {mapping.protocol} can't tell"
        raise ConfigError(f"{what}. Add these lines, with what is right for your policy:\n{lines_to_add}")


def _require_columns(done: ActionMapping, spec: ActionSpec) -> None:
    """Raise a ConfigError unless every dimension of ours has one source, and every column of theirs one use."""
    for part in ("columns", "fixed", "scale"):
        known = {*spec.names, *(spec.kinds if part == "scale" else ())}
        if unknown := [name for name in getattr(done, part) if name not in known]:
            raise ConfigError(f"actions.{part}: {unknown[0]!r} isn't one of {', '.join(spec.names)}")
    for name in spec.names:
        if (name in done.columns) == (name in done.fixed):
            remedy = "Give it one of theirs in columns, or a value in fixed"
            raise ConfigError(f"actions: {name!r} has {'two sources' if name in done.fixed else 'no column'}. {remedy}")
    assert done.width is not None
    used = sorted([*done.columns.values(), *done.ignored])
    if used != [*range(done.width)]:
        remedy = "Every one must be in columns or ignored, and only once"
        raise ConfigError(f"actions: columns {used} of an action of {done.width} numbers are used. {remedy}")


def _require_meaning(done: ActionMapping, spec: ActionSpec) -> None:
    """Raise a ConfigError where the policy's actions can't be turned into those of ``spec``."""
    for name, kind, mode in zip(spec.names, spec.kinds, spec.modes, strict=True):
        if kind in ("gripper", "other") or name in done.fixed:
            continue
        if mode != done.mode:
            remedy = "That can't be converted without the robot's pose"
            raise ConfigError(f"actions.mode: the policy's are {done.mode}, {name!r} of the world is {mode}. {remedy}")
    if done.frame != spec.frame:
        remedy = "That can't be converted without the robot's pose"
        raise ConfigError(f"actions.frame: the policy's is {done.frame!r}, the world's {spec.frame!r}. {remedy}")
    turned = [[spec.names[i] for i in vector] for vector in spec.rotations]
    for names in turned if done.rotation == "euler_xyz" else []:
        if 0 < sum(name in done.columns for name in names) < 3:
            raise ConfigError(f"actions.columns: {', '.join(names)} are one turn; give all three a column, or none")
    gripped = [spec.names[i] for i in spec.where("gripper") if spec.names[i] in done.columns]
    if gripped and spec.gripper not in GRIPPERS:
        raise ConfigError(
            f"actions.gripper: nobody knows which way {gripped[0]!r} of the world opens: {spec.gripper!r}"
        )
    for name in ("execute", "width", "hz"):
        if getattr(done, name) <= 0:
            raise ConfigError(f"actions.{name} is {getattr(done, name)}; it must be positive")


def stated(mapping: ObservationMapping | ActionMapping) -> dict[str, Any]:
    """The fields that aren't empty, for showing."""
    return {f.name: value for f in fields(mapping) if (value := getattr(mapping, f.name)) not in (None, {}, ())}
