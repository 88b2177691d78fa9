"""Finished stages are checked against their records, and what no command needs any more is told from what one does."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import toy_stages as toys
from holders import held_elsewhere
from rslwm.run import plan
from rslwm.run.lock import holder
from rslwm.run.plan import PLANS, latest
from rslwm.run.runner import Runner, StageFailed
from rslwm.run.stage import RECORD
from rslwm.run.upkeep import garbage, remove, verify
from rslwm.serialisation import ConfigError
from rslwm.storage import Store

pytestmark = pytest.mark.usefixtures("in_this_process")


def run(root: Path, *texts: str, said: str = "rslwm compare toy", cache: str = "", **options: object) -> list[Path]:
    """Folders of stages that write these texts."""
    stages = [toys.Write(label=text, text=text, trace=str(root.parent / "trace"), **options) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "command", lambda: said)
        runner = Runner(root, 1, console=Console(file=io.StringIO()), cache=cache)
        return [runner.run(stages).folders[stage] for stage in stages]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "study"


def test_what_a_stage_left_is_what_its_record_says(root: Path) -> None:
    run(root, "a", "b")
    found = verify(root)
    assert (found.stages, found.files, found.findings, found.unverifiable) == (2, 4, [], [])


@pytest.mark.parametrize(("content", "damage"), [(None, "missing"), ("longer than it was", "size"), ("b()", "content")])
def test_a_changed_file_is_found_and_named(content: str | None, damage: str, root: Path) -> None:
    (folder,) = run(root, "a")
    file = folder / "result.txt"
    file.unlink() if content is None else file.write_text(content)
    (finding,) = verify(root).findings
    assert (finding.stage, finding.damage, finding.folder) == ("write a", damage, folder)
    assert str(file) in finding.what


def test_a_record_that_is_cut_short_is_found(root: Path) -> None:
    (folder,) = run(root, "a")
    (folder / RECORD).write_text((folder / RECORD).read_text()[:100])
    assert [finding.damage for finding in verify(root).findings] == ["record"]


def test_a_record_from_before_sums_were_noted_is_no_damage(root: Path) -> None:
    (folder,) = run(root, "a")
    record = json.loads((folder / RECORD).read_text())
    del record["files"], record["fetched"]
    (folder / RECORD).write_text(json.dumps(record))
    found = verify(root)
    assert (found.stages, found.findings, found.unverifiable) == (0, [], ["write a"])


def test_a_later_plan_of_the_same_command_supersedes_what_it_lacks(root: Path) -> None:
    old, kept = run(root, "a", "b")
    run(root, "b", "c", said="rslwm compare toy --more")
    (found,) = garbage(root)
    assert (found.folder, found.why) == (old, "superseded")
    remove(root, [found])
    assert not old.exists()
    assert kept.exists()


def test_another_command_supersedes_nothing(root: Path) -> None:
    run(root, "a")
    run(root, "b", said="rslwm rollout somewhere")
    assert garbage(root) == []
    assert len(latest(root)) == 2


def test_a_repeated_command_adds_no_line_and_one_cut_short_is_left_out(root: Path) -> None:
    run(root, "a")
    run(root, "a")
    assert (root / PLANS).read_text().count("\n") == 1
    (root / PLANS).write_text((root / PLANS).read_text() + '{"command": "rslwm com')
    run(root, "b")
    assert [stage.label for stage in latest(root)[-1].stages] == ["b"]


def test_without_plans_nothing_counts_as_superseded(root: Path) -> None:
    run(root, "a")
    (root / PLANS).unlink()
    assert garbage(root) == []


def test_what_a_killed_run_goes_on_from_is_kept_unless_asked_for(root: Path) -> None:
    with pytest.raises(StageFailed):
        Runner(root, 1, console=Console(file=io.StringIO())).run([toys.Fail(label="a", repaired="no")])
    assert garbage(root) == []
    (found,) = garbage(root, partial=True)
    assert found.folder.name.endswith(".partial")
    with held_elsewhere(found.folder / ".lock") as pid:
        assert garbage(root, partial=True) == []
        assert f"process {pid}" in holder(found.folder / ".lock")


def test_nothing_is_deleted_while_a_run_is_at_work(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rslwm.run.upkeep.LOCK_SECONDS", 0)
    (old,) = run(root, "a")
    run(root, "b")
    with held_elsewhere(root / ".lock"), pytest.raises(ConfigError, match="in use by another run"):
        remove(root, garbage(root))
    assert old.exists()


@pytest.mark.parametrize("name", ["../escaped.txt", "/tmp/escaped.txt", "a/../../b", "C:/x", "a\\b"])
def test_a_cache_cannot_write_outside_of_a_stages_folder(name: str, root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(root, "a", cache=str(cache))
    (file,) = (cache / "records").iterdir()
    record = json.loads(file.read_text())
    record["files"][name] = record["files"].pop("result.txt")
    file.write_text(json.dumps(record))
    (folder,) = run(tmp_path / "other", "a", cache=str(cache))
    event = json.loads((tmp_path / "other/events.jsonl").read_text().splitlines()[-1])
    assert f"lists a file {name!r}, which no stage leaves" in event["trouble"]
    assert (folder / "result.txt").read_text() == "a()"
    assert not [path for path in tmp_path.rglob("*") if path.name in ("escaped.txt", "b")]


def test_a_fetch_that_was_killed_goes_on_and_leaves_nothing_of_its_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, other = tmp_path / "cache", tmp_path / "other"
    (made,) = run(root, "a", cache=str(cache))
    killed = other / "stages" / f"{made.name}.fetching"
    killed.mkdir(parents=True)
    (killed / "result.txt").write_bytes((made / "result.txt").read_bytes())
    (killed / "stale.txt").touch()
    got, get = [], Store.get
    monkeypatch.setattr(Store, "get", lambda store, name, file: (got.append(file.name), get(store, name, file)))
    (folder,) = run(other, "a", cache=str(cache))
    assert got == ["facts.json"]
    assert sorted(path.name for path in folder.iterdir()) == ["facts.json", "result.txt", RECORD]
    assert not killed.exists()


def test_a_folder_that_is_no_cache_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "rslwm-cache.json").write_text('{"version": 99}')
    with pytest.raises(ConfigError, match="isn't of a cache that this version reads"):
        run(root, "a", cache=str(tmp_path))
    assert not (tmp_path / "trace").exists()
