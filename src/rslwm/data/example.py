"""An RLDS episode: one tf.Example with the values of all steps one behind the other."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from rslwm.data.frames import BLACK, rgb
from rslwm.data.leaves import Leaf
from rslwm.data.tfrecord import Value, parse_example, read_records
from rslwm.types import DataError


@dataclass
class Example:
    """Reading a feature raises :class:`DataError` if it isn't what ``features.json`` says."""

    where: str
    values: dict[str, Value]

    @cached_property
    def source(self) -> list[str]:
        return self.texts(Leaf("episode_metadata/file_path", "text"))

    @cached_property
    def digest(self) -> str:
        """A hash of what the episode holds; of pictures the first ones."""
        content = hashlib.sha256()
        for key, value in sorted(self.values.items()):
            if key.startswith("steps/observation/") and isinstance(value, list) and value:
                content.update(value[0])
            elif key.startswith("steps/action") or (key.startswith("steps/") and not isinstance(value, list)):
                content.update(value.tobytes() if isinstance(value, np.ndarray) else b"".join(value))
        return content.hexdigest()[:12]

    @cached_property
    def name(self) -> str:
        """From its source file and number where given."""
        numbered = self.values.get("episode_metadata/episode_id", [])
        numbers = [n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in numbered]
        return ":".join(self.source + numbers) or self.digest

    @property
    def rewards(self) -> np.ndarray:
        rewards = self.values.get("steps/reward", [])
        if isinstance(rewards, list) and rewards:
            raise DataError(f"{self.where}: 'steps/reward' holds bytes; rewards are numbers")
        return np.asarray(rewards, np.float32)

    def numbers(self, leaf: Leaf) -> np.ndarray:
        """(T, *shape): values one behind the other, or a packed tensor each step."""
        stored = self.values.get(leaf.key, [])
        if leaf.encoding != "none":
            if not isinstance(stored, list) or not stored:
                raise DataError(f"{self.where} has no {leaf.key!r} packed as {leaf.encoding}, as features.json says")
            return np.stack([self._unpacked(item, leaf) for item in stored])
        if isinstance(stored, list) and stored:
            raise DataError(f"{self.where}: {leaf.key!r} holds bytes; features.json says {leaf.what}")
        values = np.asarray(stored)
        if leaf.dtype == "uint64":  # TFDS keeps its bits in an int64
            values = values.astype(np.int64).view(np.uint64)
        if not len(values) or len(values) % leaf.size:
            raise DataError(
                f"{self.where} has {len(values)} values of {leaf.key!r}; features.json says {leaf.size} a step"
            )
        return values.reshape(-1, *leaf.shape)

    def _unpacked(self, item: bytes, leaf: Leaf) -> np.ndarray:
        try:
            data = zlib.decompress(item) if leaf.encoding == "zlib" else item
            return np.frombuffer(data, np.dtype(leaf.dtype)).reshape(leaf.shape)
        except (zlib.error, ValueError) as error:
            raise DataError(
                f"{self.where}: a step of {leaf.key!r} is not {leaf.what} packed as {leaf.encoding} ({error})"
            ) from None

    def texts(self, leaf: Leaf) -> list[str]:
        """The texts of a feature, one a step or one in all; of numbers, the characters that they are codes of."""
        stored = self.values.get(leaf.key, [])
        if leaf.kind == "numbers":
            codes = self.numbers(leaf).reshape(-1, leaf.size).astype(np.int64)
            if codes.min() < 0 or codes.max() > 255:
                held = f"{codes.min()} to {codes.max()}"
                raise DataError(f"{self.where}: {leaf.key!r} holds {held}, which are no characters' codes")
            stored = [bytes(row[row > 0].tolist()) for row in codes]
        if not isinstance(stored, list):
            raise DataError(f"{self.where}: {leaf.key!r} holds numbers; features.json says {leaf.what}")
        try:
            return [(item := text).decode().strip() for text in stored]
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.where}: {leaf.key!r} is not UTF-8: {item!r} ({error.reason} at byte {error.start}). Write the "
                "episode again with its text encoded in UTF-8, or remove it."
            ) from None

    def pictures(self, leaf: Leaf) -> np.ndarray:
        """(T, H, W, 3) uint8"""
        stored = self.values.get(leaf.key, [])
        if not len(stored):
            raise DataError(
                f"{self.where} has no pictures of {leaf.key!r}, which other episodes have. Remove the episode."
            )
        if leaf.kind == "numbers":
            return rgb(self.numbers(leaf).astype(np.uint8))  # a tf.Example has no smaller integers than int64
        frames = [self._picture(data, leaf) for data in stored]
        if len(sizes := {frame.shape[:2] for frame in frames}) > 1:
            differ = ", ".join(map(str, sorted(sizes)))
            raise DataError(f"{self.where}: the pictures of {leaf.key!r} differ in size: {differ}")
        return np.stack(frames)

    def _picture(self, data: Any, leaf: Leaf) -> np.ndarray:
        try:
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        except UnidentifiedImageError:
            what = f"it begins with {data[:8]!r}" if isinstance(data, bytes) else f"it is the number {data}"
        except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
            what = str(error)
        raise DataError(
            f"{self.where}: an image of {leaf.key!r} can't be decoded ({what}). Remove the episode or write it again."
        )

    def is_black(self, leaf: Leaf) -> bool:
        """Judged by the middle frame. The ``has_image_*`` flags are 0 in public data whose images are there."""
        stored = self.values.get(leaf.key, [])
        if not len(stored):
            return True
        if leaf.kind != "numbers":
            return bool(self._picture(stored[len(stored) // 2], leaf).max() < BLACK)
        frames = self.numbers(leaf)
        return bool(frames[len(frames) // 2].max() < BLACK)


def read_examples(shard: Path, verify: bool = False) -> Iterator[Example]:
    """The episodes of a file; see :func:`rslwm.data.tfrecord.read_records`."""
    for number, record in enumerate(read_records(shard, verify)):
        where = f"{shard}: record {number}"
        try:
            example = Example(where, parse_example(record))
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        yield replace(example, where=f"{where}, episode {example.name!r}")
