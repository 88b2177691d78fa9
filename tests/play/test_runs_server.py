"""The page of studies: what it tells, to whom, and that it hands out no other file."""

import json
from http.client import HTTPConnection
from pathlib import Path

import pytest

from rslwm.play.runs import STRANGERS, serving

pytest.importorskip("uvicorn", reason="needs the extra play")
pytest.importorskip("starlette", reason="needs the extra play")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study with a report, a file beside it, and a report outside of what is served."""
    study = tmp_path / "runs/demo"
    for place in (study / "report", tmp_path / "secret/report"):
        place.mkdir(parents=True)
        (place / "index.html").write_text(f"<p>{place.parent.name}</p>")
    spaces = [{"name": "small-vae", "seeds": [0, 1]}]
    (study / "study.json").write_text(json.dumps({"spaces": spaces, "command": "rslwm compare demo"}))
    (study / "rows.parquet").touch()
    (tmp_path / "runs/linked").mkdir()
    (tmp_path / "runs/linked/study.json").write_text("{}")
    (tmp_path / "runs/linked/report").symlink_to(tmp_path / "secret/report")
    return tmp_path / "runs"


def asked(where: str, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, text, and what the answer may do in a browser."""
    connection = HTTPConnection(where)
    connection.request("POST" if path == "/enter" else "GET", path, headers.pop("body", None), headers)
    answer = connection.getresponse()
    told = answer.getheader("Set-Cookie", "") if path == "/enter" else answer.getheader("Content-Security-Policy", "")
    return answer.status, answer.read().decode(), told


def test_studies_are_told_and_their_reports_shown_in_a_sandbox(folder: Path) -> None:
    with serving(folder) as where:
        _, text, _ = asked(where, "/studies.json")
        demo = next(study for study in json.loads(text)["studies"] if study["name"] == "demo")
        assert (demo["state"], demo["preset"], demo["seeds"]) == ("finished", "demo", [0, 1])
        status, page, policy = asked(where, f"/{demo['reports'][0]['at']}")
    assert (status, page, policy) == (200, "<p>demo</p>", STRANGERS)


@pytest.mark.parametrize(
    "path",
    ["demo/study.json", "../secret/report/index.html", "%2e%2e/secret/report/index.html", "linked/report/index.html"],
)
def test_nothing_but_reports_below_the_folder_is_handed_out(folder: Path, path: str) -> None:
    with serving(folder) as where:
        assert asked(where, f"/report/{path}")[0] == 404


def test_a_site_that_calls_this_machine_by_its_own_name_learns_nothing(folder: Path) -> None:
    with serving(folder) as where:
        assert asked(where, "/studies.json", Host="elsewhere.example")[0] == 403


def test_with_a_token_only_who_gives_it_sees_anything(folder: Path) -> None:
    with serving(folder, "word") as where:
        assert asked(where, "/studies.json")[0] == 403
        assert asked(where, "/report/demo/report/index.html")[0] == 403
        assert asked(where, "/enter", body="other")[0] == 403
        status, _, cookie = asked(where, "/enter", body="word")
        assert status == 204
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert asked(where, "/studies.json", Cookie=cookie.partition(";")[0])[0] == 200
