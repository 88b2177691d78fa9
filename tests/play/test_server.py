"""The page's server: who may come in, what it answers, and that visitors don't share anything."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from grounds import drawn, ground
from rslwm.play.messages import packed, unpacked
from rslwm.play.playground import Playground
from rslwm.play.server import Doors, listener, loopback, serving
from rslwm.serialisation import ConfigError

pytest.importorskip("uvicorn", reason="needs the extra play")
pytest.importorskip("starlette", reason="needs the extra play")

Said = tuple[dict[str, Any], list[bytes]]


@contextmanager
def visitor(where: str, token: str = "", origin: str = "") -> Iterator[Any]:
    with connect(f"ws://{where}/drive", origin=origin or f"http://{where}", compression=None) as connection:
        connection.send(json.dumps({"token": token}))
        yield connection


def hears(connection: Any, kind: str) -> Said:
    head, parts = unpacked(connection.recv(timeout=120))
    assert head["type"] == kind, head
    return head, parts


def greeted(connection: Any) -> Said:
    hears(connection, "hello")
    return hears(connection, "frames")


def asks(connection: Any, kind: str, /, **question: object) -> Said:
    connection.send(json.dumps(question))
    return hears(connection, kind)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Playground:
    """The truth alone."""
    return ground(tmp_path_factory.mktemp("none"), models=0)


@pytest.fixture
def served(played: Playground) -> Iterator[tuple[str, Any]]:
    with serving(played) as found:
        yield found


def test_a_visitor_is_told_what_there_is_and_shown_it(served: tuple[str, Any]) -> None:
    with visitor(served[0]) as connection:
        head, _ = hears(connection, "hello")
        assert [pane["name"] for pane in head["panes"]] == ["truth"]
        assert head["spec"]["names"][-1] == "gripper"
        frames, pictures = hears(connection, "frames")
        assert frames["depth"] == 0
        assert pictures[0][:2] == b"\xff\xd8"  # a JPEG


def test_an_action_is_answered_with_its_frame(served: tuple[str, Any]) -> None:
    with visitor(served[0]) as connection:
        _, before = greeted(connection)
        head, after = asks(connection, "frames", do="step", action=drawn(1)[0].tolist(), id=7)
        assert (head["id"], head["depth"]) == (7, 1)
        assert before != after


def test_a_second_visitor_has_a_world_of_their_own(served: tuple[str, Any]) -> None:
    with visitor(served[0]) as one, visitor(served[0]) as other:
        (_, first), (_, second) = greeted(one), greeted(other)
        assert first == second
        asks(one, "frames", do="step", action=drawn(1)[0].tolist())
        head, pictures = asks(other, "frames", do="go", number=0)
        assert pictures == second
        assert head["depth"] == 0


def test_a_closed_tab_frees_its_state(served: tuple[str, Any]) -> None:
    where, visits = served
    with visitor(where) as connection:
        greeted(connection)
        assert len(visits.open) == 1
    for _ in range(200):
        if not visits.open:
            return
        time.sleep(0.05)
    raise AssertionError("still there")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"do": "step", "action": [1]}, "7 finite numbers"),
        ({"do": "juggle"}, "'juggle'"),
        ({"do": "step"}, "action"),
        ({"do": "begin", "beginning": {"seed": "many"}}, "seed"),
        ({"do": "policy", "name": "evil.py:Evil", "looks": "truth"}, "evil.py:Evil"),
        ({"do": "save", "kind": "tar"}, "mp4, lerobot"),
        ({"do": "open", "link": "nonsense"}, "link"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_drive_goes_on(
    served: tuple[str, Any], question: dict[str, object], message: str
) -> None:
    with visitor(served[0]) as connection:
        greeted(connection)
        head, _ = asks(connection, "error", **question)
        assert message in head["text"]
        asks(connection, "frames", do="step", action=[0.0] * 7)


def test_text_that_is_no_json_is_answered(served: tuple[str, Any]) -> None:
    with visitor(served[0]) as connection:
        greeted(connection)
        connection.send("{")
        hears(connection, "error")


def test_a_policy_drives_and_a_link_repeats_it(served: tuple[str, Any]) -> None:
    with visitor(served[0]) as connection:
        greeted(connection)
        asks(connection, "driver", do="policy", name="sees-points-1000", looks="truth")
        _, wanted = [asks(connection, "frames", do="auto") for _ in range(3)][-1]
        head, _ = asks(connection, "link", do="link")
    with visitor(served[0]) as other:
        greeted(other)
        asks(other, "frames", do="open", link=head["link"])
        *_, (_, found) = [asks(other, "frames", do="auto") for _ in range(3)]
        asks(other, "over", do="auto")
    assert found == wanted


def test_another_site_s_page_may_not_connect(served: tuple[str, Any]) -> None:
    with pytest.raises(InvalidStatus, match="403"), visitor(served[0], origin="http://elsewhere.example"):
        pass


def test_without_the_token_nobody_drives(played: Playground) -> None:
    with serving(played, "secret") as (where, _):
        with visitor(where, "guess") as connection, pytest.raises(ConnectionClosed):
            connection.recv()
        with visitor(where, "secret") as connection:
            greeted(connection)


def test_others_may_not_connect_without_a_token() -> None:
    with pytest.raises(ConfigError, match="RSLWM_TOKEN"):
        listener("0.0.0.0", 0, "")


@pytest.mark.parametrize(
    ("host", "origin", "token", "lets"),
    [
        ("localhost:1", "http://localhost:1", "", True),
        ("[::1]:1", "http://[::1]:1", "", True),
        ("localhost:1", "http://localhost:2", "", False),
        ("localhost:1", None, "", False),
        ("rebound.example:1", "http://rebound.example:1", "", False),  # a name of somebody else's that leads here
        ("lab.example:1", "http://lab.example:1", "secret", True),
    ],
)
def test_doors_open_to_this_server_s_own_pages(host: str, origin: str | None, token: str, lets: bool) -> None:
    assert Doors(token).lets(host, origin) == lets


def test_this_machine_is_known_by_its_addresses() -> None:
    assert [loopback(host) for host in ("127.0.0.2", "::1", "localhost", "0.0.0.0", "lab")] == [True] * 3 + [False] * 2


def test_the_page_names_no_address_but_its_own(served: tuple[str, Any]) -> None:
    where, _ = served
    for name in ("", "play.js", "wire.js", "hands.js", "drawing.js", "play.css", "report.css"):
        with urlopen(f"http://{where}/{name}") as answer:
            text = answer.read().decode()
            assert "connect-src 'self'" in answer.headers["Content-Security-Policy"]
        addresses = text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in addresses
        assert "https://" not in addresses


def test_a_message_comes_out_as_it_went_in() -> None:
    head, parts = unpacked(packed({"type": "file"}, [b"one", b"", b"three"]))
    assert head["type"] == "file"
    assert parts == [b"one", b"", b"three"]


def test_what_is_not_finite_is_said_as_null(played: Playground) -> None:
    from rslwm.play.messages import _plain

    assert _plain(float(np.nan)) is None
