"""Pages for newcomers say what is so: the commands are those that exist, the messages those that are printed, and the
examples run."""

import re
from pathlib import Path

import pytest

from rslwm.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def table(page: str) -> list[list[str]]:
    """The rows of a page's only table, without its head."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_command_has_a_goal_and_no_other_is_named() -> None:
    named = [re.fullmatch(r"`rslwm (.+)`", command) for _, command, _ in table("commands.md")]
    assert {*COMMANDS} == {found[1] for found in named if found}
    assert all(named)


SOURCE = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
MESSAGES = [message for message, _ in table("troubleshooting.md")]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_explained_is_one_that_is_printed(message: str) -> None:
    written = re.sub(r"\\([\\[\\]])", r"\1", message.strip("`"))
    literal = re.sub(r'"\s*\n\s*f?"', "", SOURCE)  # of several lines
    assert written in literal or written in SOURCE


@pytest.mark.slow
def test_the_examples_of_the_api_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```$", (DOCS / "api.md").read_text(), re.M | re.S)
    assert len(examples) > 6
    names: dict[str, object] = {}
    for number, example in enumerate(examples):
        exec(compile(example, f"example {number} of api.md", "exec"), names)


def test_every_page_is_on_the_site() -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert {page for page in pages if page not in (ROOT / "mkdocs.yml").read_text()} == set()
