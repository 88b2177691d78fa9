"""A real browser at a real server, and what it complains about."""

from __future__ import annotations

import os
import shutil
from typing import Any

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FULL = os.environ.get("RSLWM_PLAY_FULL") == "1"
"""With the world models that come with the package instead of tiny ones, for 200 actions: minutes."""
GAMEPAD = """
window.gamepad = null;
navigator.getGamepads = () => (window.gamepad ? [window.gamepad] : []);
window.plugged = (axes) => {
  window.gamepad = { id: "pretended", axes, buttons: Array.from({ length: 17 }, () => ({ pressed: false })) };
  dispatchEvent(new Event("gamepadconnected"));
};
"""
"""A gamepad that nobody holds."""
DEPTH = "play.nodes()[play.here()].depth"


def until(page: Any, expression: str, seconds: float = 1800 if FULL else 300) -> None:
    """Asks again and again: the page's policy lets nobody evaluate a string in it."""
    for _ in range(int(20 * seconds)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{expression} isn't so after {seconds:g} s")


def opened(browser: Any, address: str, wrong: list[str], link: str = "", **options: Any) -> Any:
    """A page that shows where its drive begins. Complaints of its console go to ``wrong``, and requests that leave the
    server."""
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    own = (address, "data:", "blob:")
    page.on("request", lambda sent: None if sent.url.startswith(own) else wrong.append(sent.url))
    page.add_init_script(GAMEPAD)
    page.goto(link or address)
    until(page, "window.play && play.nodes().length > 0")
    return page


def depth(page: Any) -> int:
    """Actions that led to where the page stands."""
    return page.evaluate(DEPTH)


def held(page: Any, key: str, to: int) -> None:
    """Hold a key until so many actions are done, and let what is under way come to its end."""
    page.keyboard.down(key)
    until(page, f"{DEPTH} >= {to}")
    page.keyboard.up(key)
    settled(page)


def settled(page: Any) -> None:
    """Wait until nothing is asked of the server any more."""
    until(page, "!play.busy()")
    page.wait_for_timeout(100)
    until(page, "!play.busy()")


def pictures(page: Any, number: int | None = None) -> list[str]:
    """What every pane shows, of any frame by a click on it in the tree of branches."""
    if number is not None:
        until(page, "document.querySelectorAll('#tree circle').length === play.nodes().length")
        page.locator("#tree circle").nth(number).click()
        until(page, f"play.here() === {number} && !play.busy()")
    return page.evaluate("[...document.querySelectorAll('.pane canvas')].map((canvas) => canvas.toDataURL())")
