"""A link holds a drive, whole."""

import base64
import json
import zlib

import numpy as np
import pytest

from grounds import drawn
from rslwm.play.beginnings import Beginning
from rslwm.play.link import LONGEST, decode, encode, meant, quantised
from rslwm.types import DataError


def forged(head: object, body: bytes = b"") -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(head).encode() + b"\n" + body)).decode()


def test_what_was_put_in_comes_out() -> None:
    beginning, actions = Beginning("stack", 7, 3, True, "build “it”", noise=4), quantised(drawn(5))
    found, same = decode(encode(beginning, actions))
    assert found == beginning
    assert np.array_equal(same, actions)


def test_a_drive_of_no_action_has_a_link() -> None:
    _, actions = decode(encode(Beginning(), np.zeros((0, 7), np.int16)))
    assert actions.shape == (0, 7)


def test_it_fits_into_an_address() -> None:
    text = encode(Beginning(), quantised(drawn(200)))
    assert len(text) < 4500
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_actions_are_what_they_were_to_a_thirty_thousandth() -> None:
    actions = drawn(50)
    assert np.abs(meant(quantised(actions)) - actions).max() < 2e-5
    assert np.array_equal(quantised(meant(quantised(actions))), quantised(actions))


HEAD = {"format": 1, "dims": 7, "beginning": {}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "ä" * 8,
        encode(Beginning(), quantised(drawn(5)))[:-8],
        forged([1]),
        forged({**HEAD, "format": 2}),
        forged(HEAD, bytes(15)),
        forged({**HEAD, "dims": 0}),
        forged({**HEAD, "beginning": {"seed": -1}}),
        forged({**HEAD, "beginning": {"sead": 1}}),
        forged(HEAD, bytes(14 * (LONGEST + 1))),
        forged(HEAD, bytes(2**22)),
    ],
)
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="link"):
        decode(text)
