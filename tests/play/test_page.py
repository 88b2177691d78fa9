"""The page in a browser: driven by keys, without an error on its console."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grounds import ground
from rslwm.play.server import serving

pytest.importorskip("uvicorn", reason="needs the extra play")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
KEYS = ("KeyW", "KeyA", "KeyS", "KeyD", "KeyR", "KeyF", "KeyQ", "ArrowUp", "ArrowRight", "KeyJ")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium, or CHROMIUM=path)"),
]


@pytest.fixture(scope="module")
def address(plugin: Path) -> Iterator[str]:
    with serving(ground(plugin)) as (where, _):
        yield f"http://{where}/"


@pytest.fixture
def wrong() -> list[str]:
    """What the console complains about, and requests that go elsewhere."""
    return []


@pytest.fixture
def page(address: str, wrong: list[str]) -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        own = (address, "data:", "blob:")
        page.on("request", lambda sent: None if sent.url.startswith(own) else wrong.append(sent.url))
        page.goto(address)
        until(page, "window.play && play.nodes().length === 1")
        yield page
        browser.close()


def until(page: Any, expression: str, seconds: float = 300) -> None:
    """Asks again and again: the page's policy lets nobody evaluate a string in it."""
    for _ in range(int(20 * seconds)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{expression} isn't so after {seconds:g} s")


def depth(page: Any) -> int:
    return page.evaluate("play.nodes()[play.here()].depth")


def test_two_hundred_actions_by_keys_leave_the_console_silent(page: Any, wrong: list[str]) -> None:
    page.select_option("#rate", "60")
    for number in range(1, 11):
        key = KEYS[number - 1]
        page.keyboard.down(key)
        until(page, f"play.nodes()[play.here()].depth >= {20 * number}")
        page.keyboard.up(key)
    assert depth(page) >= 200
    assert wrong == []


def test_a_held_key_moves_the_hand_and_a_released_one_stops_it(page: Any, wrong: list[str]) -> None:
    page.keyboard.down("KeyD")
    until(page, "play.nodes()[play.here()].depth >= 3")
    page.keyboard.up("KeyD")
    page.wait_for_timeout(1500)
    stopped = depth(page)
    page.wait_for_timeout(1000)
    assert depth(page) == stopped
    assert page.evaluate("play.nodes()[1].action[1]") > 0.5
    assert wrong == []


def test_undo_reset_and_the_slider_go_through_what_happened(page: Any) -> None:
    for _ in range(3):
        page.click("#once")
        page.wait_for_timeout(400)
    before = depth(page)
    page.keyboard.press("Backspace")
    until(page, f"play.nodes()[play.here()].depth === {before - 1}")
    page.locator("#scrub").focus()
    page.keyboard.press("End")
    until(page, f"play.nodes()[play.here()].depth === {before}")
    page.locator("#reset").click()
    until(page, "play.nodes()[play.here()].depth === 0")


def test_a_link_opens_the_same_drive(page: Any, address: str, wrong: list[str]) -> None:
    page.keyboard.down("KeyW")
    until(page, "play.nodes()[play.here()].depth >= 4")
    page.keyboard.up("KeyW")
    page.wait_for_timeout(1500)
    driven = page.evaluate("play.nodes().map((node) => node.action)")
    page.click("#share")
    until(page, "document.getElementById('link').value")
    link = page.input_value("#link")
    page.goto("about:blank")
    page.goto(link)
    until(page, f"window.play && play.nodes().length === {len(driven)}")
    assert page.evaluate("play.nodes().map((node) => node.action)") == driven
    assert wrong == []


def test_all_that_can_be_used_can_be_reached_by_tab(page: Any) -> None:
    usable = "button:not([disabled]), input:not([hidden]), select:not([disabled]), .pad"
    unnamed = page.evaluate(
        f"[...document.querySelectorAll({json.dumps(usable)})].filter((x) => x.tabIndex < 0).map((x) => x.id)"
    )
    assert unnamed == []


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_nothing_is_wider_than_the_page(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
