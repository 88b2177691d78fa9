"""What foreign files hold, and which of it is a camera, a state, the action or the instruction: nothing goes unsaid."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np

from rslwm.data.parts import Part, dictionary_parts, plain_part
from rslwm.types import DataError

LARGEST_STATE = 2048  # values a step: more are point clouds, maps and depth images, no states for a probe

DEPTH = re.compile(r"depth|disparity", re.IGNORECASE)
_CAMERA, _STATE = "observation.images.", "observation.state"
_FLAG = "--data.features"


@dataclass(frozen=True)
class Leaf:
    """One feature: its key in the file, and what a step of it is."""

    key: str
    kind: Literal["image", "numbers", "text", "unknown"]
    dtype: str = ""
    shape: tuple[int, ...] = ()
    obstacle: str = ""
    """Why it can't be read, where it can't."""
    encoding: str = "none"

    def __str__(self) -> str:
        return f"{self.key}: {self.what}"

    @property
    def what(self) -> str:
        """``float32 (7)``, ``image uint8 (64, 64, 3)``, ``text``."""
        shape = f"({', '.join(map(str, self.shape))})" if self.shape else "scalar"
        return {"numbers": f"{self.dtype} {shape}", "image": f"image {self.dtype} {shape}"}.get(self.kind, self.kind)

    @property
    def size(self) -> int:
        """Values a step."""
        return prod(self.shape)

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def pictures(self) -> bool:
        """Whether it holds pictures of any kind, encoded or as a tensor (H, W) or (H, W, channels)."""
        tensor = len(self.shape) == 3 and self.shape[2] in (1, 3, 4) and min(self.shape[:2]) >= 8
        return self.kind == "image" or (self.kind == "numbers" and self.dtype == "uint8" and tensor)

    @property
    def deep(self) -> bool:
        """Whether pictures are of depth."""
        return self.dtype not in ("uint8", "") or bool(DEPTH.search(self.name))

    @property
    def grey(self) -> bool:
        return self.shape[2:] == (1,)

    @property
    def instructs(self) -> bool:
        return "instruction" in self.name.lower()

    @property
    def whole(self) -> bool:
        """Whether it holds integers."""
        return self.kind == "numbers" and self.dtype.startswith(("int", "uint"))

    @property
    def unlike_pictures(self) -> bool:
        """Whether it has the shape of pictures and isn't read as such: channels first, or not uint8."""
        sides = [n for n in self.shape if n not in (1, 3, 4)]
        shaped = len(self.shape) == 3 and len(sides) == 2 and min(sides) >= 8
        return self.kind == "numbers" and shaped and not self.pictures


@dataclass(frozen=True)
class Dialect:
    """Where a format keeps what, as prefixes of its keys."""

    action: str
    observation: str
    instructions: tuple[str, ...] = ()
    """Where a text is known to be the instruction, the preferred one first."""
    ignored: tuple[str, ...] = ()
    """Book-keeping that nobody misses."""
    instructed: bool = False
    """Whether the instruction stands elsewhere, too."""
    step: str = ""
    """What the keys of everything that is recorded at every step begin with."""

    def short(self, key: str) -> str:
        """A camera's or a state's name: LeRobot allows no slash in one."""
        return key.removeprefix(self.observation).removeprefix(self.step).replace("/", ".")


@dataclass
class Names:
    """The user's OURS=THEIRS. Raises DataError: an entry isn't of this form, or nothing of ours is called so."""

    action: list[str] = field(default_factory=list)
    instruction: str = ""
    cameras: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, features: Iterable[str]) -> Names:
        names, given = cls(), set[str]()
        for entry in features:
            ours, equals, theirs = (part.strip() for part in entry.partition("="))
            if not (ours and equals and theirs) or ours.endswith("."):
                raise DataError(f"data.features: {entry!r} is not OURS=THEIRS, as in action=actions")
            if (ours in given and ours != "action") or (ours == "action" and theirs in names.action):
                raise DataError(f"data.features names {ours} twice; leave {entry!r} out")
            given.add(ours)
            if ours == "action":
                names.action.append(theirs)
            elif ours in ("instruction", "task"):
                names.instruction = theirs
            elif ours.startswith(_CAMERA):
                names.cameras[ours.removeprefix(_CAMERA)] = theirs
            elif ours == _STATE or ours.startswith(f"{_STATE}."):
                names.states[ours.removeprefix(f"{_STATE}.") if ours != _STATE else "state"] = theirs
            else:
                known = f"action, instruction, {_CAMERA}NAME, {_STATE} and {_STATE}.NAME"
                raise DataError(f"data.features: {ours!r} in {entry!r} is nothing of ours; there are {known}")
        return names


@dataclass
class Layout:
    """Which leaf is what."""

    cameras: dict[str, Leaf] = field(default_factory=dict)
    states: dict[str, Leaf] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    """The leaf of every part."""
    instructions: list[Leaf] = field(default_factory=list)
    """The first text that isn't empty is the episode's instruction."""
    left_out: list[str] = field(default_factory=list)

    @property
    def state_names(self) -> dict[str, list[str]]:
        """Names of the values of flattened matrices, ``pose_0_0``, ``pose_0_1``, ..., and of scalars."""
        shapes = {name: leaf.shape for name, leaf in self.states.items() if len(leaf.shape) != 1}
        return {name: ["_".join([name, *map(str, i)]) for i in np.ndindex(*shape)] for name, shape in shapes.items()}


def lay_out(leaves: Sequence[Leaf], names: Names, dialect: Dialect, where: str) -> Layout:
    """Sort ``leaves``: what the user names first, then by what it is and where it stands.

    Depth is no colour, so that such pictures are left out, and those of one channel where there are colours; the first
    camera is therefore one of colours. States of any shape and of integers are kept as they are, in one dimension.
    Raises DataError: there is no action, or what the user names isn't there or is of another kind.
    """
    return _Sorter(leaves, names, dialect, where).sort()


class _Sorter:
    def __init__(self, leaves: Sequence[Leaf], names: Names, dialect: Dialect, where: str) -> None:
        # What is observed comes first: a goal's picture is no default camera.
        observed = sorted(leaves, key=lambda leaf: (not leaf.key.startswith(dialect.observation), leaf.key))
        self.leaves = {leaf.key: leaf for leaf in observed}
        self.names, self.dialect, self.where = names, dialect, where
        self.layout, self.taken = Layout(), {*dialect.ignored}

    def sort(self) -> Layout:
        self._named()
        key = self.dialect.action
        if not self.layout.parts:
            self._add_action(key, self._under(key))
        rest = [leaf for leaf in self.leaves.values() if leaf.key not in self.taken]
        colours = any(leaf.pictures and not leaf.grey and not leaf.deep for leaf in rest)
        once = [leaf.key for leaf in rest if leaf.kind != "text" and not leaf.key.startswith(self.dialect.step)]
        if once:
            self.layout.left_out.append(f"recorded once an episode: {', '.join(once)}")
        for leaf in rest:
            if leaf.key not in once and (reason := self._place(leaf, colours or bool(self.layout.cameras))):
                self.layout.left_out.append(f"{leaf}, {reason}")
        if not self.layout.instructions and not self.dialect.instructed:
            texts = [leaf.key for leaf in rest if leaf.kind == "text"]
            what = f"texts are {', '.join(texts)}; {_FLAG} instruction=KEY takes one" if texts else "there is no text"
            self.layout.left_out.append(f"no instruction: {what}")
        return self.layout

    def _under(self, key: str) -> list[Leaf]:
        return [leaf for leaf in self.leaves.values() if leaf.key == key or leaf.key.startswith(f"{key}/")]

    def _find(self, theirs: str, ours: str) -> tuple[str, list[Leaf]]:
        """The leaf of this key, with or without its prefix, or all that stand under it; and the whole key."""
        for prefix in ("", self.dialect.step, self.dialect.observation):
            key = f"{prefix}{theirs}".rstrip("/")
            if found := self._under(key):
                self.taken |= {leaf.key for leaf in found}
                return key, found
        raise DataError(f"data.features: {ours}={theirs}: {self.where} has no {theirs!r}; it has {self._listed()}")

    def _one(self, theirs: str, ours: str, fits: Callable[[Leaf], bool], wanted: str) -> Leaf:
        _, (leaf, *more) = self._find(theirs, ours)
        if more or leaf.obstacle or not fits(leaf):
            what = f"{len(more) + 1} features" if more else leaf.obstacle or leaf.what
            raise DataError(f"data.features: {ours}={theirs}: {leaf.key} of {self.where} is {what}, not {wanted}")
        return leaf

    def _named(self) -> None:
        for name, theirs in self.names.cameras.items():
            coloured = "a picture of colours (uint8)"
            leaf = self._one(theirs, _CAMERA + name, lambda leaf: leaf.pictures and leaf.dtype == "uint8", coloured)
            self.layout.cameras[name] = leaf
        for name, theirs in self.names.states.items():
            leaf = self._one(theirs, f"{_STATE}.{name}", lambda leaf: leaf.kind == "numbers", "numbers")
            self.layout.states[name] = leaf
        if theirs := self.names.instruction:
            leaf = self._one(theirs, "instruction", lambda leaf: leaf.kind == "text" or leaf.whole, "text or codes")
            self.layout.instructions.append(leaf)
        for theirs in self.names.action:
            self._add_action(*self._find(theirs, "action"))

    def _add_action(self, key: str, found: list[Leaf]) -> None:
        named = {leaf.key.removeprefix(key).lstrip("/"): leaf for leaf in found}
        numbers = {name: leaf for name, leaf in named.items() if leaf.kind == "numbers" and not leaf.obstacle}
        if long := next((leaf for leaf in numbers.values() if leaf.size > LARGEST_STATE), None):
            raise DataError(f"{self.where}: {long} are no action. Name another feature: {_FLAG} action=KEY")
        if not numbers:
            held = "; ".join(f"{leaf}, {leaf.obstacle}".rstrip(", ") for leaf in found)
            what = f": the action ({held}) is not numbers" if found else f" has no {key!r}; it has {self._listed()}"
            raise DataError(f"{self.where}{what}. Name what the actions are: {_FLAG} action=KEY")
        self.taken = (self.taken - {leaf.key for leaf in found}) | {leaf.key for leaf in numbers.values()}
        if single := numbers.get(""):
            parts = {"": plain_part(single.name, single.size)}
        else:
            parts = {part.key: part for part in dictionary_parts({name: n.size for name, n in numbers.items()})}
        self.layout.parts += parts.values()
        self.layout.leaves += [numbers[name] for name in parts]

    def _place(self, leaf: Leaf, colours: bool) -> str:
        """Where a leaf goes, or why it is left out."""
        if leaf.kind == "text" and not leaf.obstacle:
            return self._text(leaf)
        name, key, places = self.dialect.short(leaf.key), leaf.key, self.layout.states
        take, coded = f"{_FLAG} {_STATE}.NAME={key} takes it", "an instruction as numbers, not as text"
        unlike = "shaped like pictures, which are read as uint8 (H, W, channels) only"
        reasons: list[tuple[str, object]] = [
            (f"not part of the observation; {take}", not key.startswith(self.dialect.observation)),
            (f"{coded}; {_FLAG} instruction={key} reads them as characters", leaf.instructs and leaf.whole),
            ("depth", DEPTH.search(leaf.name) and leaf.size > 1),
            (f"{unlike}: convert it; {take} as numbers", leaf.unlike_pictures),
            (f"{leaf.size} values a step are no state", not 0 < leaf.size <= LARGEST_STATE),
            (f"another state is called {name!r}", name in places),
        ]
        if leaf.pictures:
            places = self.layout.cameras
            reasons = [
                ("depth, not colours", leaf.deep),
                (f"one channel, not colours; {_FLAG} {_CAMERA}{name}={key} takes it", leaf.grey and colours),
                (f"another camera is called {name!r}", name in places),
            ]
        reason = leaf.obstacle or next((why for why, holds in reasons if holds), "")
        if not reason:
            places[name] = leaf
        return reason

    def _text(self, leaf: Leaf) -> str:
        known = self.dialect.instructions
        if self.names.instruction or not (leaf.key in known or leaf.instructs):
            return f"a text; {_FLAG} instruction={leaf.key} takes it as the instruction"
        self.layout.instructions.append(leaf)
        self.layout.instructions.sort(key=lambda each: ((*known, each.key).index(each.key), each.key))
        return ""

    def _listed(self) -> str:
        return ", ".join(map(str, self.leaves.values())) or "nothing"
