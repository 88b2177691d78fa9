"""What the name of a dimension says: its words, its axis, and which dimensions are one vector."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

_AXES = {"x": 0, "y": 1, "z": 2, "w": 3, "roll": 0, "pitch": 1, "yaw": 2, "wx": 0, "wy": 1, "wz": 2}
_GLUED = (
    (r"(delta|d)((?:r|q|rot)?[xyz]|qw|roll|pitch|yaw|theta)", r"delta \2"),
    (r"v([xyz]|theta|yaw|rot)", r"vel \1"),
    (r"rot([xyz])|r([xyz])", r"rot \1\2"),
    (r"q([xyzw])", r"quat \1"),
    (r"(?:delta|d)(pos|rot|ori|quat|ee|eef|joint)|delta(\w+)", r"delta \1\2"),
    (r"([a-z]+)(\d+)", r"\1 \2"),
)
"""Words that are written as one: ``dx``, ``vtheta``, ``drx``, ``qw``, ``joint1``."""


def words(name: str) -> list[str]:
    """The words of a name in lower case: ``left.deltaX`` -> left, delta, x; ``joint1_dq`` -> joint, 1, dq."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name.replace("Δ", " delta ")).lower()
    found = [word for word in re.split(r"[^a-z0-9]+", apart) if word]
    for pattern, replacement in _GLUED:
        found = [part for word in found for part in _split(word, pattern, replacement)]
    return found


def _split(word: str, pattern: str, replacement: str) -> list[str]:
    match = re.fullmatch(pattern, word)
    return match.expand(replacement).split() if match else [word]


def axis(name: str) -> int | None:
    """0, 1, 2 for x, y, z or roll, pitch, yaw, 3 for a quaternion's w; None for a name without one."""
    return next((_AXES[word] for word in reversed(words(name)) if word in _AXES), None)


def stem(name: str) -> tuple[str, ...]:
    """The words without the axis: the same for all components of a vector."""
    found = words(name)
    last = next((i for i in reversed(range(len(found))) if found[i] in _AXES), len(found))
    return (*found[:last], *found[last + 1 :])


def vectors(names: Sequence[str], size: int) -> list[list[int]]:
    """The places of these names, grouped into vectors of 3 or quaternions of 4, each in the order x, y, z (, w).

    Components of a vector share their stem, wherever they stand. Three names without an axis are a vector if they
    follow each other; a quaternion's names have to tell its order. ValueError if the names make no whole vectors.
    """
    axes = [axis(name) for name in names]
    if size == 3 and None in axes:
        if len(names) % 3 == 0:
            return [[i, i + 1, i + 2] for i in range(0, len(names), 3)]
        raise ValueError(f"{len(names)} dimensions {[*names]}")
    together: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        together[stem(name)].append(i)
    blocks = [[*range(i, min(i + size, len(names)))] for i in range(0, len(names), size)]
    for groups in ([*together.values()], blocks):
        if all(sorted(-1 if axes[i] is None else axes[i] for i in group) == [*range(size)] for group in groups):  # type: ignore[type-var]
            return [sorted(group, key=lambda i: axes[i]) for group in groups]  # type: ignore[arg-type, return-value]
    raise ValueError(f"{len(names)} dimensions {[*names]}")
