"""Stage functions for the runner's tests; worker processes import them by name."""

import atexit
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from rslwm.run.runner import Runner, Stage, Workspace


def trace(work: Workspace, event: str) -> None:
    """Note an event with its time in a file outside the stage's folder, where repeats show."""
    with Path(work.config["trace"]).open("a") as file:
        file.write(f"{event} {work.config['text']} {time.time()}\n")


def write(work: Workspace) -> None:
    """Write the config's text and what the inputs hold."""
    trace(work, "start")
    time.sleep(work.config.get("seconds", 0.0))
    print(f"writing {work.config['text']}")
    texts = [(folder / "result.txt").read_text() for folder in work.inputs]
    (work.out / "result.txt").write_text(f"{work.config['text']}({','.join(texts)})")
    trace(work, "end")


def write_anew(work: Workspace) -> None:
    """:func:`write` as it would be if its results had changed."""
    write(work)


write_anew.version = 2  # type: ignore[attr-defined]


def leave_a_note(work: Workspace) -> None:
    """What a library cleans up when its process ends."""
    atexit.register(Path(work.config["note"]).touch)


def meet(work: Workspace) -> None:
    """Return only when as many stages as ``guests`` run at the same time."""
    meeting = Path(work.config["meeting"])
    (meeting / work.config["text"]).touch()
    deadline = time.monotonic() + 60
    while len(list(meeting.iterdir())) < work.config["guests"]:
        if time.monotonic() > deadline:
            raise TimeoutError("nobody else came")
        time.sleep(0.02)


def count(work: Workspace) -> None:
    """Count to ``total`` with a checkpoint at each step, and a process of its own that would outlive it."""
    checkpoint = work.out / "count"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (work.out / "pids").write_text(f"{os.getpid()} {helper.pid}")
    trace(work, f"from-{first}")
    for step in range(first, work.config["total"]):
        time.sleep(0.05)
        fresh = work.out / "count.tmp"
        fresh.write_text(str(step + 1))
        fresh.replace(checkpoint)
        work.progress(step + 1, work.config["total"])
    helper.kill()
    helper.wait()
    (work.out / "pids").unlink()
    (work.out / "result.txt").write_text(checkpoint.read_text())


def fail(work: Workspace) -> None:
    """Raise, unless the file that ``repaired`` names exists."""
    if not Path(work.config["repaired"]).exists():
        raise ArithmeticError("the toy broke")
    (work.out / "result.txt").write_text("repaired")


def die(work: Workspace) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(work: Workspace) -> None:
    os._exit(7)


def fill_disk(work: Workspace) -> None:
    Path("/dev/full").write_text("x" * 100_000)


def allocate(work: Workspace) -> None:
    """Hold ``megabytes`` of touched memory for a moment."""
    held = bytearray(work.config["megabytes"] << 20)
    held[::4096] = b"x" * len(held[::4096])


def torch_sum(work: Workspace) -> None:
    """A sum in float32 whose last bits depend on how many threads share it."""
    import torch

    values = torch.randn(1_000_000, generator=torch.Generator().manual_seed(work.config["seed"]))
    text = f"{torch.get_num_threads()} {(values * values).sum().item().hex()}"
    (work.out / "result.txt").write_text(text)


def counting_chain(folder: Path) -> list[Stage]:
    """Two stages: a quick one, and one that needs it and counts for two seconds."""
    config = {"trace": str(folder / "trace")}
    quick = Stage("write", "quick", write, {**config, "text": "quick"})
    return [quick, Stage("count", "slow", count, {**config, "text": "slow", "total": 40}, inputs=(quick,))]


def main(folder: str) -> None:
    """What the kill tests run in a process of its own."""
    Runner(Path(folder) / "out", jobs=2, console=Console(width=200)).run(counting_chain(Path(folder)))
