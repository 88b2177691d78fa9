"""The page as a browser shows it: Chromium, driven by Playwright."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rslwm.report.page import build_report
from rslwm.study.record import judge
from synthetic import write_run

playwright = pytest.importorskip("playwright.sync_api", reason="the browser's tests need playwright (the dev extra)")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python (the dev extra)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = write_run(tmp_path_factory.mktemp("runs") / "demo")
    judge(run)
    return build_report(run).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address: str, request: pytest.FixtureRequest) -> Iterator:
    """The page; that nothing went wrong on it and no request left the machine is checked at the end."""
    scheme = getattr(request, "param", "light")
    page = browser.new_page(color_scheme=scheme, reduced_motion="reduce", viewport={"width": 1440, "height": 900})
    wrong, asked = [], []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert not wrong
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    page.close()


def positions(page) -> list[str]:
    return page.eval_on_selector_all(
        "#rollouts .screen", "screens => screens.map(s => s.style.backgroundPosition.split(',')[0].split(' ')[0])"
    )


def test_figures_are_drawn_and_tell_their_numbers(page):
    charts = page.locator("section > figure.chart")
    assert charts.count() >= 3
    for chart in charts.all():
        box = chart.locator("svg").last.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 100
    plot = page.locator('figure[data-name="pareto"] .plot')
    plot.focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator('figure[data-name="pareto"] .tip')
    assert tip.is_visible()
    assert tip.text_content()


def test_a_series_is_hidden_and_shown_again(page):
    figure = page.locator('figure[data-name="fidelity"]')
    key, lines = figure.locator(".key").first, figure.locator("[data-space='0'] > path")
    assert lines.first.is_visible()
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    assert not any(line.is_visible() for line in lines.all())
    key.click()
    assert lines.first.is_visible()


def test_tables_sort_and_filter(page):
    table = page.locator("#metrics table.filtered")
    first = lambda: table.locator("tbody tr:visible th").first.text_content()  # noqa: E731
    head = table.locator("thead th").first
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    least = first()
    head.locator("button").click()
    assert first() > least
    page.locator("#metrics input[type=search]").first.fill("planning scored")
    left = table.locator("tbody tr:visible th").all_text_contents()
    assert sorted(left) == ["cem_error", "plan_success"]


def test_figures_and_tables_are_saved(page):
    figure = page.locator('figure[data-name="pareto"]')
    with page.expect_download() as download:
        figure.locator(".csv").click()
    assert Path(download.value.path()).read_text().startswith("panel,series")
    with page.expect_download() as download:
        figure.locator("button.svg").click()
    svg = Path(download.value.path()).read_text()
    assert svg.startswith("<svg")
    assert "var(" not in svg


def test_videos_play_in_sync_and_step_by_frame(page):
    page.locator("#rollouts").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#rollouts .screen').style.backgroundImage")
    assert len(set(positions(page))) == 1
    page.locator("#rollouts .ahead").click()
    stepped = positions(page)
    assert len(set(stepped)) == 1
    assert stepped[0] != "0%"
    page.locator("#rollouts .speed").select_option("8")
    page.locator("#rollouts .play").click()
    page.wait_for_function(
        "([at]) => document.querySelector('#rollouts .screen').style.backgroundPosition.split(' ')[0] !== at",
        arg=[stepped[0]],
    )
    assert len(set(positions(page))) == 1
    page.locator("#rollouts .apart").check()
    assert page.locator("#rollouts .screen.difference").count() == 6


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_axe_finds_nothing_serious(page):
    page.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true; })")
    found = axe.Axe().run(page).response["violations"]
    serious = {
        v["id"]: [node["html"][:120] for node in v["nodes"][:3]]
        for v in found
        if v["impact"] in ("serious", "critical")
    }
    assert not serious, json.dumps(serious, indent=1)


@pytest.mark.parametrize("width", [390, 820])
def test_no_page_is_wider_than_its_screen(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
