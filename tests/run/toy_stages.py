"""Stages for the engine's tests; worker processes import them by name."""

import atexit
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rslwm.run.runner import Runner
from rslwm.run.stage import Stage, Workspace
from rslwm.serialisation import OPERATIONAL
from rslwm.sim.config import SimConfig


@dataclass(frozen=True, eq=False, kw_only=True)
class Toy(Stage[Path]):
    """Does nothing."""

    kind = "toy"

    text: str = ""
    cost: float = field(default=1.0, metadata=OPERATIONAL)
    large: bool = field(default=False, metadata=OPERATIONAL)
    gpu: bool = field(default=False, metadata=OPERATIONAL)

    @property
    def seconds(self) -> float:
        return self.cost

    @property
    def exclusive(self) -> bool:
        return self.large

    @property
    def accelerated(self) -> bool:
        return self.gpu

    def run(self, work: Workspace) -> None:
        pass


@dataclass(frozen=True, eq=False, kw_only=True)
class Linked(Toy):
    """A toy that needs others."""

    after: tuple[Toy, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Shared(Toy):
    """A toy that two processes run; the second says where it is outside the folder, or fails."""

    kind = "shared"
    processes = 2

    trace: str

    def run(self, work: Workspace) -> None:
        rank = os.environ["RANK"]
        if rank == "0":
            work.progress(1, 2, "halfway")
            (work.out / "size").write_text(os.environ["WORLD_SIZE"])
            return
        if self.text == "fail":
            raise ValueError("the second one can't")
        Path(self.trace).write_text(rank)
        raise SystemExit(0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Simulated(Toy):
    """A toy with a configuration and with needs of every form."""

    sim: SimConfig = field(default_factory=SimConfig)
    data: Stage | None = None
    parts: tuple[Stage, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Renewed(Simulated):
    """:class:`Simulated` as it would be if its results had changed."""

    version = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Write(Linked):
    """Write the text and what the needs wrote, and opens as that."""

    kind = "write"

    trace: str
    sleep: float = 0.0

    def note(self, event: str) -> None:
        """Note an event with its time in a file outside the stage's folder, where repeats show."""
        with Path(self.trace).open("a") as file:
            file.write(f"{event} {self.text} {time.time()}\n")

    def run(self, work: Workspace) -> None:
        self.note("start")
        time.sleep(self.sleep)
        print(f"writing {self.text}")
        texts = [(work.folder(stage) / "result.txt").read_text() for stage in self.after]
        (work.out / "result.txt").write_text(f"{self.text}({','.join(texts)})")
        work.write_facts(length=len(self.text))
        self.note("end")


@dataclass(frozen=True, eq=False, kw_only=True)
class Leave(Toy):
    """Leave a file as what a library cleans up when its process ends."""

    note: str

    def run(self, work: Workspace) -> None:
        atexit.register(Path(self.note).touch)


@dataclass(frozen=True, eq=False, kw_only=True)
class Meet(Toy):
    """Return only when as many stages as ``guests`` run at the same time."""

    meeting: str
    guests: int

    def run(self, work: Workspace) -> None:
        meeting = Path(self.meeting)
        (meeting / self.text).touch()
        deadline = time.monotonic() + 60
        while len(list(meeting.iterdir())) < self.guests:
            if time.monotonic() > deadline:
                raise TimeoutError("nobody else came")
            time.sleep(0.02)


@dataclass(frozen=True, eq=False, kw_only=True)
class Count(Write):
    """Count to ``total`` with a checkpoint at each step, and a process of its own that would outlive it."""

    kind = "count"

    total: int
    megabytes: int = 0

    def run(self, work: Workspace) -> None:
        checkpoint = work.out / "count"
        first = int(checkpoint.read_text()) if checkpoint.exists() else 0
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (work.out / "pids").write_text(f"{os.getpid()} {helper.pid}")
        self.note(f"from-{first}")
        for step in range(first, self.total):
            time.sleep(0.05)
            fresh = work.out / "count.tmp"
            fresh.write_text(str(step + 1))
            fresh.replace(checkpoint)
            work.progress(step + 1, self.total, "")
        helper.kill()
        helper.wait()
        (work.out / "pids").unlink()
        (work.out / "large").write_bytes(bytes(self.megabytes << 20))
        (work.out / "result.txt").write_text(checkpoint.read_text())


@dataclass(frozen=True, eq=False, kw_only=True)
class Fail(Linked):
    """Raise, unless the file that ``repaired`` names exists."""

    kind = "fail"

    repaired: str

    def run(self, work: Workspace) -> None:
        with (work.out / "attempts").open("a") as file:
            file.write("1")
        if not Path(self.repaired).exists():
            raise ArithmeticError("the toy broke")
        (work.out / "result.txt").write_text("repaired")


@dataclass(frozen=True, eq=False, kw_only=True)
class Spared(Fail):
    """:class:`Fail` that a run can do without."""

    kind = "spared"
    spared = True


class Die(Toy):
    def run(self, work: Workspace) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Exit(Toy):
    def run(self, work: Workspace) -> None:
        os._exit(7)


class FillDisk(Toy):
    def run(self, work: Workspace) -> None:
        Path("/dev/full").write_text("x" * 100_000)


@dataclass(frozen=True, eq=False, kw_only=True)
class Allocate(Linked):
    """Hold ``megabytes`` of touched memory for a moment."""

    megabytes: int

    def run(self, work: Workspace) -> None:
        held = bytearray(self.megabytes << 20)
        held[::4096] = b"x" * len(held[::4096])


@dataclass(frozen=True, eq=False, kw_only=True)
class Hungry(Toy):
    """Ask for more memory than the process may have, unless there is ``plenty``."""

    how: str
    plenty: str

    def run(self, work: Workspace) -> None:
        import resource

        if Path(self.plenty).exists():
            return
        if self.how == "torch":
            import torch

            resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
            torch.empty(9 << 30, dtype=torch.uint8)
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        bytearray(9 << 30)


@dataclass(frozen=True, eq=False, kw_only=True)
class Hang(Toy):
    """Never end, unless ``repaired``; ``deaf`` to all signals."""

    deaf: bool
    repaired: str

    def run(self, work: Workspace) -> None:
        if self.deaf:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        if not Path(self.repaired).exists():
            time.sleep(600)


@dataclass(frozen=True, eq=False, kw_only=True)
class TorchSum(Toy):
    """A sum in float32 whose last bits depend on how many threads share it."""

    seed: int = 0

    def run(self, work: Workspace) -> None:
        import torch

        values = torch.randn(1_000_000, generator=torch.Generator().manual_seed(self.seed))
        text = f"{torch.get_num_threads()} {(values * values).sum().item().hex()}"
        (work.out / "result.txt").write_text(text)


def counting_chain(folder: Path) -> list[Write]:
    """Two stages: a quick one, and one that needs it and counts for two seconds."""
    trace = str(folder / "trace")
    quick = Write(label="quick", text="quick", trace=trace)
    return [quick, Count(label="slow", text="slow", total=40, trace=trace, after=(quick,))]


def diamond(folder: Path) -> list[Stage]:
    """Five stages, of which some need others and some don't, one with a sum that depends on its threads."""
    trace = str(folder / "trace")
    a, b = (Write(label=text, text=text, trace=trace) for text in "ab")
    middle = Write(label="middle", text="middle", trace=trace, after=(a,))
    return [Write(label="top", text="top", trace=trace, after=(b, middle)), TorchSum(label="sum")]


def results(runner: Runner, stages: list[Stage]) -> list[str]:
    """What a run of these stages wrote."""
    folders = runner.run(stages).folders
    return [(folders[stage] / "result.txt").read_text() for stage in stages]


def main(folder: str, executor: str) -> None:
    """What the kill tests run in a process of its own."""
    run = Runner(Path(folder) / "out", jobs=2, console=Console(width=200), executor=executor)
    try:
        run.run(counting_chain(Path(folder)))
    except KeyboardInterrupt as stop:
        print(stop)
        raise SystemExit(130) from None
