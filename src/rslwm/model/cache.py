"""Keys and values of the frames that new frames may look back to."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rslwm.attention import KeyValues


@dataclass(frozen=True)
class Cache:
    """Keys and values of consecutive frames, never changed in place.

    They come in parts, oldest first: a part that several candidates share has fewer rows than the candidates' own.
    """

    parts: tuple[tuple[KeyValues, ...], ...] = ()
    """Of each part, one pair a temporal block."""
    lengths: tuple[int, ...] = ()
    """Frames of each part."""
    first: int = 0
    """Position of the first frame; rotary embeddings only see differences, so it may grow without end."""

    @property
    def frames(self) -> int:
        return sum(self.lengths)

    @property
    def end(self) -> int:
        """Position of the frame after the last."""
        return self.first + self.frames

    def layer(self, i: int) -> list[KeyValues]:
        """The parts of temporal block i."""
        return [part[i] for part in self.parts]

    def append(self, new: Cache) -> Cache:
        """With the frames of ``new`` behind its own; what candidates share stays shared."""
        if not self.parts or len(self.parts[-1][0][0]) != len(new.parts[0][0][0]):
            return Cache(self.parts + new.parts, self.lengths + new.lengths, self.first)
        layers = zip(self.parts[-1], new.parts[0], strict=True)
        joined = tuple((torch.cat([k, new_k], -2), torch.cat([v, new_v], -2)) for (k, v), (new_k, new_v) in layers)
        return Cache((*self.parts[:-1], joined), (*self.lengths[:-1], self.lengths[-1] + new.frames), self.first)

    def tail(self, frames: int) -> Cache:
        """Without the oldest frames, so that at most ``frames`` are left; nothing is copied."""
        parts, lengths = [], []
        drop = max(0, self.frames - frames)
        for part, length in zip(self.parts, self.lengths, strict=True):
            cut = min(drop, length)
            drop -= cut
            if cut < length:
                parts.append(tuple((_cut(k, cut, length, length), _cut(v, cut, length, length)) for k, v in part))
                lengths.append(length - cut)
        return Cache(tuple(parts), tuple(lengths), self.end - sum(lengths))

    def rows(self, chosen: torch.Tensor, batch: int) -> Cache:
        """The chosen ones (N,) of ``batch`` rows, in memory of their own."""
        parts = (
            tuple((k[chosen // (batch // len(k))], v[chosen // (batch // len(v))]) for k, v in part)
            for part in self.parts
        )
        return Cache(tuple(parts), self.lengths, self.first)


EMPTY = Cache()


def first_frames(key_values: KeyValues, count: int, frames: int) -> KeyValues:
    """Of the first ``count`` of so many frames, in memory of their own: the rest is freed, and a product over strided
    keys would copy them at every denoising step."""
    k, v = (_cut(x, 0, count, frames).contiguous() for x in key_values)
    return k, v


def _cut(x: torch.Tensor, start: int, end: int, frames: int) -> torch.Tensor:
    tokens = x.shape[-2] // frames
    return x[..., start * tokens : end * tokens, :]
