"""Instructions as numbers: a small vocabulary, into whose spare places words fall that aren't in it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

VOCABULARY = (
    "red", "green", "blue", "yellow", "purple", "orange", "cube", "cylinder", "square", "plate", "drawer", "cabinet",
    "handle", "open", "close", "closed", "push", "slide", "move", "put", "place", "pick", "lift", "set", "stack",
    "grasp", "up", "down", "on", "onto", "top", "of", "to", "it", "the", "and", "across", "table",
)  # fmt: skip
LENGTH = 16
"""Words of an instruction that are read; what follows them isn't."""
SPARE = 8
NUMBERS = 1 + len(VOCABULARY) + SPARE
"""How many numbers a word can have; 0 is none."""

_KNOWN = {word: 1 + place for place, word in enumerate(VOCABULARY)}


def numbered(instructions: Sequence[str]) -> Tensor:
    """(B, LENGTH) int64: the number of each word, then zeros."""
    lines = [[_number(word) for word in re.findall(r"\w+", line.lower())][:LENGTH] for line in instructions]
    return torch.tensor([line + [0] * (LENGTH - len(line)) for line in lines]).reshape(-1, LENGTH)


def forgotten(words: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The same with this share of the words in spare places: unknown words are to be no surprise."""
    spare = torch.randint(1 + len(VOCABULARY), NUMBERS, words.shape, generator=generator)
    lost = (torch.rand(words.shape, generator=generator) < share) & (words > 0)
    return torch.where(lost, spare, words)


def _number(word: str) -> int:
    return _KNOWN.get(word) or 1 + len(VOCABULARY) + zlib.crc32(word.encode()) % SPARE
