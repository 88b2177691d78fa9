"""What is written is read, and whatever else comes is refused by name."""

import base64
import json
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest

from rslwm.remote.arrays import MAX_BYTES, ProtocolError, numbers
from rslwm.remote.codecs import (
    from_json,
    pack_openpi,
    pack_vla_eval,
    to_json,
    unpack_openpi,
    unpack_vla_eval,
)

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
ARRAYS = [
    PICTURE,
    np.moveaxis(PICTURE, 2, 0),
    RNG.normal(size=(3, 7)).astype(np.float32),
    RNG.normal(size=4),
    np.arange(6, dtype=">i4").reshape(2, 3),
    np.array([True, False]),
    np.zeros((0, 7), np.float32),
    np.array(3.5),
]
CODECS: dict[str, tuple[Callable, Callable]] = {
    "json-numpy": (lambda value: to_json(value).encode(), from_json),
    "openpi": (pack_openpi, unpack_openpi),
    "vla-eval": (pack_vla_eval, unpack_vla_eval),
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_come_back(codec: str, array: np.ndarray) -> None:
    write, read = CODECS[codec]
    found = read(write({"inside": [{"it": array}, "text", 1, 2.5, None, True]}))
    assert np.array_equal(found["inside"][0]["it"], array)
    assert np.asarray(found["inside"][0]["it"]).dtype == array.dtype
    assert found["inside"][1:] == ["text", 1, 2.5, None, True]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("array", [np.array([1j]), np.array([{}]), np.array(["text"])], ids=["c", "O", "U"])
def test_no_other_arrays_are_written(codec: str, array: np.ndarray) -> None:
    with pytest.raises(TypeError, match="can't be sent"):
        CODECS[codec][0]({"it": array})


def test_json_is_written_as_json_numpy_does() -> None:
    data = base64.b64encode(np.array([1, 2], "<f4").tobytes()).decode()
    assert json.loads(to_json(np.array([1, 2], "<f4"))) == {"__numpy__": data, "dtype": "<f4", "shape": [2]}
    scalar = {"__numpy__": base64.b64encode(np.float32(1.5).tobytes()).decode(), "dtype": "<f4", "shape": []}
    assert from_json(json.dumps(scalar)) == 1.5


def test_openpi_has_bytes_for_keys_and_vla_eval_text() -> None:
    array = np.array([1, 2], "<f4")
    theirs = {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": "<f4", b"shape": [2]}
    assert msgpack.unpackb(pack_openpi(array), raw=False) == theirs
    plain = {"__ndarray__": True, "data": array.tobytes(), "dtype": "<f4", "shape": [2]}
    assert msgpack.unpackb(pack_vla_eval(array), raw=False) == plain
    assert unpack_openpi(msgpack.packb({b"__npgeneric__": True, b"data": 2.5, b"dtype": "<f8"})) == 2.5
    assert isinstance(unpack_vla_eval(pack_openpi(array)), dict)  # not taken for its own


@pytest.mark.parametrize("form", ["raw", "png", "jpeg"])
def test_pictures_of_vla_eval_come_in_three_ways(form: str) -> None:
    from io import BytesIO

    from PIL import Image

    smooth = np.broadcast_to(np.arange(0, 160, 10, dtype=np.uint8)[:, None, None], (16, 16, 3)).copy()
    data, file = smooth.tobytes(), BytesIO()
    if form != "raw":
        Image.fromarray(smooth).save(file, form.upper())
        data = file.getvalue()
    sent = {"__image__": True, "format": form, "data": data, "shape": [16, 16, 3], "dtype": "|u1"}
    found = unpack_vla_eval(msgpack.packb({"images": {"a": sent}}))["images"]["a"]
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - smooth).max() <= (8 if form == "jpeg" else 0)


def openpi(**changes: Any) -> bytes:
    fields: dict = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4", b"shape": [2]}
    return msgpack.packb(fields | {name.encode(): value for name, value in changes.items()})


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (openpi(shape=[10**12]), "isn't that of an array"),
        (openpi(shape=[2**20, 2**20]), "has 4398046511104 bytes, got 8"),
        (openpi(shape=[-1]), "isn't that of an array"),
        (openpi(shape=[2.0]), "isn't that of an array"),
        (openpi(shape=[1] * 7), "isn't that of an array"),
        (openpi(shape=None), "isn't that of an array"),
        (openpi(dtype="O"), "isn't one of plain numbers"),
        (openpi(dtype="<c8"), "isn't one of plain numbers"),
        (openpi(dtype="|V8"), "isn't one of plain numbers"),
        (openpi(dtype="f4,f4"), "isn't one of plain numbers"),
        (openpi(dtype="<f1"), "isn't one of plain numbers"),
        (openpi(dtype=[["a", "f4"]]), "isn't one of plain numbers"),
        (openpi(data="text"), "instead of bytes"),
        (openpi(data=b"\0" * 7), "has 8 bytes, got 7"),
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),  # a list of 4 billion entries
        (b"\xdd\x00\x00\x0f\xff" * 500, "not msgpack"),  # lists in lists, each with room for thousands
        (b"\x91" * 900 + b"\x01", "inside each other"),
        (b"\x91" * 5000 + b"\x01", "not msgpack"),
        (msgpack.packb({"a": msgpack.ExtType(4, b"x")}), "a ExtType"),
        (msgpack.packb({"a": msgpack.Timestamp(1)}), "a Timestamp"),
        (msgpack.packb({1: 2}), "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"", "not msgpack"),
        (b"\xa2\xff\xff", "not msgpack"),  # no UTF-8
        (b"\x01\x02", "not msgpack"),
        (bytes(MAX_BYTES + 1), "the limit is"),
    ],
)  # fmt: skip
def test_impossible_messages_are_refused_by_name(message: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        unpack_openpi(message)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[" * 40 + "]" * 40, "inside each other"),
        ("9" * 10_000, "not JSON"),
        ('{"__numpy__": "AAAA", "dtype": "|u1", "shape": [4]}', "isn't the base64 of the 4 bytes"),
        ('{"__numpy__": "AA==", "dtype": "|u1", "shape": [2]}', "has 2 bytes, got 1"),
        ('{"__numpy__": "A!==", "dtype": "|u1", "shape": [1]}', "isn't base64"),
        ('{"__numpy__": "AAAA", "dtype": "<f4"}', "isn't that of an array"),
        ('{"__numpy__": 3, "dtype": "|u1", "shape": [3]}', "isn't the base64"),
    ],
)
def test_impossible_json_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        from_json(text)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"shape": [9000, 9000, 3]}, "numbers at most"),
        ({"shape": [12, 10]}, "expected"),
        ({"shape": [11, 10, 3]}, "its shape says"),
        ({"format": "gif"}, "expected png, jpeg or raw"),
        ({"format": "jpeg"}, "can't be decoded as jpeg"),
        ({"data": b"nothing"}, "can't be decoded as png"),
    ],
)
def test_a_picture_is_decoded_only_if_its_header_and_its_shape_agree(fields: dict, reason: str) -> None:
    picture = msgpack.unpackb(pack_vla_eval(PICTURE), raw=False)
    with pytest.raises(ProtocolError, match=reason):
        unpack_vla_eval(msgpack.packb(picture | fields))


@pytest.mark.parametrize("codec", CODECS)
def test_mutated_bytes_end_in_a_message_or_in_the_one_error(codec: str) -> None:
    write, read = CODECS[codec]
    whole = write({"images": {"a": PICTURE}, "state": ARRAYS[2], "prompt": "push the cube", "seq": 3})
    rng, refused = np.random.default_rng(1), 0
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(len(data)) if rng.random() < 0.5 else rng.integers(min(80, len(data))))
            change = rng.integers(4)
            if change == 0:
                data[place] = rng.integers(256)
            elif change == 1:
                del data[place : place + int(rng.integers(1, 20))]
            elif change == 2:
                data[place:place] = rng.bytes(int(rng.integers(1, 20)))
            else:
                data[place : place + 4] = b"\xff\xff\xff\xff"
        try:
            read(bytes(data))
        except ProtocolError:
            refused += 1
    assert 100 < refused <= 600


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, "2"], "isn't made of numbers"),
        ([1, True], "isn't made of numbers"),
        ([[1, 2], [3]], "several lengths"),
        ([[1, 2], 3], "several lengths"),
        ([1, float("nan")], "isn't finite"),
        ([1, 10**400], "isn't finite"),
        ([], "expected"),
        ("it failed", "isn't an array"),
        (None, "isn't an array"),
        (np.zeros((1, 2, 7)), "expected"),
        (np.array([True]), "isn't an array"),
        ([[[1]]], "isn't made of numbers"),
    ],
)
def test_an_action_is_made_of_finite_numbers(value: Any, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        numbers(value)


def test_actions_may_be_arrays_or_lists() -> None:
    assert numbers([1, 2.5]).tolist() == [1.0, 2.5]
    assert numbers([[1, 2], [3, 4]]).shape == (2, 2)
    assert numbers([np.array([1, 2]), [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert numbers(np.array([1, 2], np.int8)).dtype == np.float64
