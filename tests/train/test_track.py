"""Trackers show every line of every log once, however often runs are killed, resumed and renamed."""

import json
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rslwm.train import track
from rslwm.train.loop import TrainingLog
from rslwm.train.track import TRACKERS, Kind, Mirror, Open, tracking


class Shown:
    """A tracker that remembers: steps by run, and which runs are open."""

    def __init__(self) -> None:
        self.lines: dict[str, list[tuple[int, dict[str, float]]]] = defaultdict(list)
        self.open: list[str] = []

    def start(self, name: str) -> Any:
        self.open.append(name)
        return SimpleNamespace(
            log=lambda metrics, step: self.lines[name].append((step, metrics)),
            finish=lambda: self.open.remove(name),
        )

    @property
    def steps(self) -> dict[str, list[int]]:
        return {name: [step for step, _ in lines] for name, lines in self.lines.items()}


def write(root: Path, stage: str, *steps: int) -> TrainingLog:
    log = TrainingLog(root / "stages" / stage)
    for step in steps:
        log.append(step, loss=1 / step)
    return log


def mirror(root: Path, shown: Shown, **names: str) -> Mirror:
    return Mirror(root, shown.start, root / ".shown.json", {k.replace("_", "-"): v for k, v in names.items()})


def test_lines_are_forwarded_as_they_come(tmp_path: Path) -> None:
    shown = Shown()
    mirrored = mirror(tmp_path, shown)
    mirrored.follow()
    write(tmp_path, "world-model-1.partial", 20, 40)
    mirrored.follow()
    write(tmp_path, "world-model-1.partial", 60)
    write(tmp_path, "encoder-2.partial", 20)
    mirrored.follow()
    assert shown.lines["world-model-1"] == [(20, {"loss": 1 / 20}), (40, {"loss": 1 / 40}), (60, {"loss": 1 / 60})]
    assert shown.steps["encoder-2"] == [20]


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path: Path) -> None:
    shown = Shown()
    mirrored = mirror(tmp_path, shown)
    path = write(tmp_path, "encoder-1.partial", 20).path
    with path.open("a") as file:
        file.write('{"step": 40, "lo')
        file.flush()
        mirrored.follow()
        assert shown.steps == {"encoder-1": [20]}
        file.write('ss": 0.5}\n')
    mirrored.follow()
    assert shown.steps == {"encoder-1": [20, 40]}


def test_the_last_lines_of_a_stage_survive_its_renaming_and_end_its_run(tmp_path: Path) -> None:
    shown = Shown()
    mirrored = mirror(tmp_path, shown)
    log = write(tmp_path, "encoder-1.partial", 20)
    mirrored.follow()
    assert shown.open == ["encoder-1"]
    log.append(40, loss=0.5)
    log.path.parent.rename(tmp_path / "stages/encoder-1")
    mirrored.follow()
    assert shown.steps == {"encoder-1": [20, 40]}
    assert shown.open == []


def test_a_stage_that_is_renamed_while_it_is_read_is_read_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown()
    mirrored = mirror(tmp_path, shown)
    log = write(tmp_path, "encoder-1.partial", 20)

    def renamed(path: Path) -> None:
        log.path.parent.rename(tmp_path / "stages/encoder-1")
        raise FileNotFoundError(path)

    with monkeypatch.context() as patch:
        patch.setattr(track, "read_log", renamed)
        mirrored.follow()
    mirrored.follow()
    assert shown.steps == {"encoder-1": [20]}


def test_a_resumed_training_repeats_no_line(tmp_path: Path) -> None:
    shown = Shown()
    mirrored = mirror(tmp_path, shown)
    log = write(tmp_path, "encoder-1.partial", 20, 40, 60)
    mirrored.follow()
    log.truncate(20)
    mirrored.follow()
    for step in (40, 60, 80):
        log.append(step, loss=0.5)
        mirrored.follow()
    assert shown.steps == {"encoder-1": [20, 40, 60, 80]}


def test_a_later_command_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    write(tmp_path, "encoder-1.partial", 20, 40)
    first, second = Shown(), Shown()
    mirror(tmp_path, first).follow()
    write(tmp_path, "encoder-1.partial", 60)
    write(tmp_path, "decoder-1.partial", 20)
    mirror(tmp_path, second).follow()
    assert second.steps == {"encoder-1": [60], "decoder-1": [20]}


def test_runs_have_the_stages_names_and_those_of_its_parts(tmp_path: Path) -> None:
    shown = Shown()
    write(tmp_path, "probes-1.partial/inverse", 20)
    write(tmp_path, "probes-1.partial/success", 20)
    write(tmp_path, "encoder-1", 20)
    mirror(tmp_path, shown, probes_1="probes-small-vae").follow()
    assert shown.steps == {"probes-small-vae-inverse": [20], "probes-small-vae-success": [20], "encoder-1": [20]}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """In the place of TensorBoard, asked every millisecond."""
    remembered = Shown()
    monkeypatch.setitem(TRACKERS, "tensorboard", lambda root: remembered.start)
    monkeypatch.setattr(track, "POLL_SECONDS", 0.001)
    return remembered


def test_the_end_of_the_block_forwards_the_rest_and_ends_the_runs(
    tmp_path: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "POLL_SECONDS", 600)
    threads = threading.active_count()
    with suppress(KeyboardInterrupt), tracking("tensorboard", tmp_path):
        write(tmp_path, "encoder-1.partial", 20, 40)
        raise KeyboardInterrupt
    assert shown.steps == {"encoder-1": [20, 40]}
    assert shown.open == []
    assert threading.active_count() == threads


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_tracker_that_fails_stops_nothing_and_is_caught_up_with(tmp_path: Path, shown: Shown) -> None:
    failed = threading.Event()

    def unreachable(name: str) -> Any:
        failed.set()
        raise ConnectionError("no network")

    start, shown.start = shown.start, unreachable
    with tracking("tensorboard", tmp_path):
        write(tmp_path, "encoder-1.partial", 20)
        assert failed.wait(10)
        write(tmp_path, "encoder-1.partial", 40)
    assert shown.steps == {}
    shown.start = start
    with tracking("tensorboard", tmp_path):
        pass
    assert shown.steps == {"encoder-1": [20, 40]}


@pytest.mark.parametrize("kind", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_asked_for(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (kind, "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with (
        pytest.raises(ImportError, match=rf"{kind} is not installed.*pip install 'rslwm\[trackers\]'"),
        tracking(kind, tmp_path),
    ):
        pass


# --------------------------------------------------------------------------------------------- the trackers themselves


def show_two_runs_in_two_commands(start: Open) -> None:
    """Two runs side by side, one of which goes on in a later command."""
    runs = {name: start(name) for name in ("encoder small-vae+16", "world-model")}
    for step in (20, 40):
        for run in runs.values():
            run.log({"loss": 1 / step, "mfu": 0.25}, step=step)
    for run in runs.values():
        run.finish()
    again = start("world-model")
    again.log({"loss": 1 / 60}, step=60)
    again.finish()


def test_tensorboard_holds_every_line(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    show_two_runs_in_two_commands(TRACKERS["tensorboard"](tmp_path))
    for name, steps in (("encoder small-vae+16", [20, 40]), ("world-model", [20, 40, 60])):
        events = accumulator(str(tmp_path / "tensorboard" / name))
        events.Reload()
        assert set(events.Tags()["scalars"]) == {"loss", "mfu"}
        found = [(event.step, event.value) for event in events.Scalars("loss")]
        assert found == [(step, pytest.approx(1 / step)) for step in steps]


def test_wandb_holds_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", exc_type=ImportError)
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    show_two_runs_in_two_commands(TRACKERS["wandb"](tmp_path))
    steps = defaultdict(list)
    for file in tmp_path.glob("wandb/offline-run-*/*.wandb"):
        messages = [Record.FromString(message) for message in wandb_messages(file)]
        (name,) = {message.run.display_name for message in messages if message.run.display_name}
        for message in messages:
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in message.history.item}
            if "loss" in items:
                steps[name].append((message.history.step.num, items["loss"]))
    assert steps["encoder small-vae+16"] == [(20, 1 / 20), (40, 1 / 40)]
    assert sorted(steps["world-model"]) == [(20, 1 / 20), (40, 1 / 40), (60, 1 / 60)]


def wandb_messages(file: Path) -> Iterator[bytes]:
    """Of a file shorter than one of its blocks, 32 kB: after a header, each behind checksum, length and kind."""
    data, position = file.read_bytes(), 7
    assert len(data) < 2**15
    while position < len(data):
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        yield data[position + 7 : position + 7 + length]
        position += 7 + length


def test_trackio_holds_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", exc_type=ImportError)
    from trackio.sqlite_storage import SQLiteStorage

    show_two_runs_in_two_commands(TRACKERS["trackio"](tmp_path))
    (name,) = (run for run in SQLiteStorage.get_runs("rslwm") if run.endswith(" world-model"))
    assert [(line["step"], line["loss"]) for line in SQLiteStorage.get_logs("rslwm", name)] == [
        (20, 1 / 20),
        (40, 1 / 40),
        (60, 1 / 60),
    ]
