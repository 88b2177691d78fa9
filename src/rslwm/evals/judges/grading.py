"""What a model's written answer says of a trial: the score that it states, and how sure its probabilities are of it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

_MARKS = r"[\s*_`]*"
_STATED = re.compile(
    rf"^[\s*_#>`-]*final\s+score{_MARKS}[:=]?{_MARKS}(?P<number>\d*\.?\d+){_MARKS}\.?{_MARKS}$", re.I | re.M
)
_ANNOUNCED = re.compile(r"final\s+score", re.I)
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.S)
_ENOUGH = 0.5  # of the probability, without which the alternatives that a server lists say too little


def stated(text: str, rubric: Collection[float]) -> float | None:
    """The number in the last line "Final Score: X" of an answer; None if there is none, if what is announced there is
    no number, or if the rubric doesn't have it."""
    text = _THOUGHT.sub("", text)
    said, announced = [*_STATED.finditer(text)], [*_ANNOUNCED.finditer(text)]
    if not said or announced[-1].start() >= said[-1].end():
        return None
    number = float(said[-1]["number"])
    return number if number in rubric else None


def graded(tokens: list[dict[str, Any]] | None, rubric: Collection[float]) -> float | None:
    """The mean of the rubric's scores under the probabilities of an answer's tokens, as OpenAI's protocol lists them.

    Where the number is written in several tokens ("0", ".", "5"), another first token leads to a number that was never
    finished: "0" then stands for the mean of the scores that begin so. None without usable probabilities.
    """
    tokens = [token for token in tokens or [] if isinstance(token, dict) and isinstance(token.get("token"), str)]
    text = "".join(token["token"] for token in tokens)
    if not (said := [*_STATED.finditer(text)]) or float(said[-1]["number"]) not in rubric:
        return None
    begin, end = said[-1].span("number")
    number, path, place, mass, total = float(text[begin:end]), 1.0, 0, 0.0, 0.0
    for token in tokens:
        first, place = place, place + len(token["token"])
        if place <= begin:
            continue
        before, written = text[first:begin], text[begin : max(first, begin)]
        for other, probability in _alternatives(token).items():
            value = _value(written, other.removeprefix(before).lstrip(), first >= end, number, rubric)
            if other != token["token"] and value is not None:
                mass, total = mass + path * probability, total + path * probability * value
        path *= _alternatives(token).get(token["token"], 0.0)
        if first >= end:  # what could have come after the number: its other digits
            break
    if mass + path < _ENOUGH:
        return None
    return (total + path * number) / (mass + path)


def _alternatives(token: dict[str, Any]) -> dict[str, float]:
    """What could have stood in a token's place, itself included, and its probability."""
    listed = [one for one in [*(token.get("top_logprobs") or []), token] if isinstance(one, dict)]
    known = [one for one in listed if isinstance(one.get("logprob"), int | float)]
    return {str(one.get("token")): math.exp(min(float(one["logprob"]), 0.0)) for one in known}


def _value(written: str, other: str, over: bool, number: float, rubric: Collection[float]) -> float | None:
    """What a number stands for that goes on like this after what is written of it; None if it is none of the rubric's.
    ``over``: the number was written to its end, and what doesn't go on is ``number``."""
    match = re.match(r"[\d.]*", other)
    digits = match[0] if match else ""
    if not digits and over:
        return number
    if not digits:  # it could have ended here
        return float(written) if written.rstrip(".") and float(written) in rubric else None
    begun = written + digits
    scores = [score for score in rubric if f"{score:g}".startswith(begun)]
    scores = scores or [score for score in rubric if f"{score:.1f}".startswith(begun)]
    return sum(scores) / len(scores) if scores else None
