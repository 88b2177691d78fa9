"""The page in a browser: driven by hand, by others, and by two visitors; what stays, what is the same again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsing import CHROMIUM, DEPTH, FULL, depth, held, opened, pictures, settled, until
from grounds import COMPUTE, ground
from rslwm.data.dataset import EpisodeDataset
from rslwm.play.playground import PlayConfig, Playground, open_playground, resolve
from rslwm.play.server import serving

pytest.importorskip("uvicorn", reason="needs the extra play")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")

ACTIONS = 200 if FULL else 16
KEYS = ("KeyW", "KeyD", "KeyR", "KeyQ")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium, or CHROMIUM=path)"),
]


@pytest.fixture(scope="module")
def played(plugin: Path) -> Playground:
    return open_playground(resolve([], None), True, PlayConfig(), COMPUTE) if FULL else ground(plugin, models=2)


@pytest.fixture(scope="module")
def served(played: Playground) -> Iterator[tuple[str, Any]]:
    with serving(played) as (where, visits):
        yield f"http://{where}/", visits


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        found = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def address(served: tuple[str, Any]) -> str:
    return served[0]


@pytest.fixture
def wrong() -> Iterator[list[str]]:
    """What the console complains about, and requests that go elsewhere: of no test anything."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def page(browser: Any, address: str, wrong: list[str]) -> Iterator[Any]:
    page = opened(browser, address, wrong)
    page.select_option("#rate", "60")
    yield page
    page.close()


def test_keys_a_gamepad_sticks_and_buttons_drive_all_panes(page: Any, played: Playground) -> None:
    quarter = ACTIONS // 4
    for number, key in enumerate(KEYS, 1):
        held(page, key, quarter * number // len(KEYS))
    page.evaluate("plugged([0.8, 0, 0, -0.6])")
    until(page, f"{DEPTH} >= {2 * quarter}")
    page.evaluate("gamepad.axes = [0, 0, 0, 0]")
    settled(page)
    driven = page.evaluate("play.nodes().at(-1).action")
    assert driven[1] > 0.3
    assert driven[2] > 0.3
    page.locator("#pad-move").hover()
    page.mouse.down()
    box = page.locator("#pad-move").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 4)
    until(page, f"{DEPTH} >= {3 * quarter}")
    page.mouse.up()
    settled(page)
    assert page.evaluate("play.nodes().at(-1).action[0]") < -0.3
    while depth(page) < ACTIONS:
        page.click("#once")
        settled(page)
    assert page.evaluate("play.nodes().at(-1).shown.length") == len(played.panes)


def test_a_gamepad_s_buttons_are_those_of_the_page(page: Any) -> None:
    def press(button: int) -> None:
        page.evaluate(f"gamepad.buttons[{button}].pressed = true")
        page.wait_for_timeout(100)
        page.evaluate(f"gamepad.buttons[{button}].pressed = false")
        page.wait_for_timeout(100)
        settled(page)

    page.evaluate("plugged([0, 0, 0, 0])")
    assert "pretended" in page.inner_text("#pad-seen")
    press(2)
    assert depth(page) == 1
    press(1)
    assert depth(page) == 0
    before = page.get_attribute("#grip", "aria-pressed")
    press(0)
    assert page.get_attribute("#grip", "aria-pressed") != before


def test_a_released_key_stops_the_hand(page: Any) -> None:
    held(page, "KeyD", 2)
    stopped = depth(page)
    page.wait_for_timeout(500)
    assert depth(page) == stopped
    assert page.evaluate("play.nodes()[1].action[1]") > 0.5


def test_undo_fork_and_a_link_show_identical_frames(page: Any, browser: Any, address: str, wrong: list[str]) -> None:
    held(page, "KeyW", 3)
    first = pictures(page, 3)
    page.keyboard.press("Backspace")
    until(page, f"{DEPTH} === 2")
    fork = page.evaluate("play.nodes().length")
    held(page, "KeyA", 3)
    other = pictures(page, fork)
    assert page.evaluate(f"play.nodes()[{fork}].parent") == 2
    assert other != first
    assert pictures(page, 3) == first
    pictures(page, 2)
    again = page.evaluate("play.nodes().length")
    held(page, "KeyW", 3)
    assert pictures(page, again) == first
    page.click("#share")
    until(page, "document.getElementById('link').value")
    visitor = opened(browser, address, wrong, page.input_value("#link"))
    until(visitor, "play.nodes().length === 4")
    settled(visitor)
    assert pictures(visitor) == first
    visitor.close()


def test_a_second_visitor_has_a_world_of_their_own_until_the_tab_is_closed(
    page: Any, browser: Any, served: tuple[str, Any], wrong: list[str]
) -> None:
    address, visits = served
    held(page, "KeyW", 1)
    before, here = pictures(page), len(visits.open)
    visitor = opened(browser, address, wrong)
    assert len(visits.open) == here + 1
    assert depth(visitor) == 0
    assert pictures(visitor) != before
    visitor.click("#once")
    settled(visitor)
    assert pictures(page) == before
    visitor.close()
    for _ in range(200):
        if len(visits.open) == here:
            return
        page.wait_for_timeout(50)
    raise AssertionError("a closed tab keeps its worlds")


def test_one_begins_where_one_says_and_others_drive(page: Any) -> None:
    for name, value in {"seed": "7", "distractors": "1", "noise": "3", "instruction": "do as you like"}.items():
        page.fill(f"#beginning [name={name}]", value)
    page.select_option("#beginning [name=family]", "pick")
    page.click("#beginning button")
    until(page, "document.getElementById('task').textContent === 'do as you like'")
    page.click("#let")
    until(page, f"{DEPTH} >= 2")
    page.click("#release")
    settled(page)
    page.click("#goal-here")
    settled(page)
    page.click("#reset")
    settled(page)
    page.fill("#horizon", "1")
    page.fill("#candidates", "8")
    page.click("#plan")
    until(page, "document.querySelectorAll('.found img').length > 3")
    page.click("#release")
    settled(page)
    page.fill("#beginning [name=episode]", "1")
    page.click("#beginning button")
    until(page, "!document.getElementById('replay').disabled")
    page.click("#replay")
    until(page, f"{DEPTH} >= 2")
    assert not page.is_visible("#trouble")


def test_a_drive_is_taken_away_as_a_film_and_as_a_data_set(page: Any, tmp_path: Path) -> None:
    held(page, "KeyW", 1)
    for kind in ("mp4", "lerobot"):
        with page.expect_download() as saved:
            page.click(f"[data-save={kind}]")
        saved.value.save_as(tmp_path / saved.value.suggested_filename)
    assert (tmp_path / "drive.mp4").read_bytes()[4:8] == b"ftyp"
    shutil.unpack_archive(tmp_path / "drive-lerobot.zip", tmp_path)
    assert "truth" in EpisodeDataset(tmp_path / "drive").cameras


def test_all_that_can_be_used_can_be_reached_by_tab(page: Any) -> None:
    usable = "button:not([disabled]), input:not([hidden]), select:not([disabled]), .pad"
    unnamed = page.evaluate(
        f"[...document.querySelectorAll({json.dumps(usable)})].filter((x) => x.tabIndex < 0).map((x) => x.id)"
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, address: str, wrong: list[str], scheme: str) -> None:
    page = opened(browser, address, wrong, color_scheme=scheme)
    page.click("#once")
    settled(page)
    found = axe.Axe().run(page).response["violations"]
    page.close()
    assert [(one["id"], one["help"]) for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_nothing_is_wider_than_the_page(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
