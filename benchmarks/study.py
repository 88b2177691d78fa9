"""What a whole study takes: by two workers against one, and of ten times as many episodes.

python -m benchmarks.study workers [PRESET AND FLAGS OF rslwm compare]
    Encoding and evaluation by one worker and by two, each single-threaded. Everything else is made once, before.
python -m benchmarks.study episodes [PRESET AND FLAGS OF rslwm compare]
    Peak memory and time of every stage at 1x and 10x episodes, and the report of 10x rows.

Without flags, it is the preset smoke with two spaces; --keep FOLDER keeps the runs and reuses what is finished there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

DEFAULT = ["smoke", "--latents", "small-vae,small-dino+16"]
MEASURED = ("features", "latents", "rollouts", "metric")
"""Kinds of stages that encode or evaluate."""
EPISODES = 32
"""Of the smaller study; the larger one has ten times as many."""
SAMPLE_SECONDS = 0.02
MB = 2**20


@dataclass(frozen=True)
class Ran:
    """A stage of a study, when it ran (seconds since the epoch), and the most private memory of a process then."""

    kind: str
    label: str
    began: float
    ended: float
    anonymous: int = 0


@dataclass
class Sampler:
    """Private memory (RssAnon) of the largest process below this one, sampled all the time: what memory maps show of
    files is the page cache's, which the kernel takes back."""

    samples: list[tuple[float, int]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Sampler]:
        done = threading.Event()

        def sample() -> None:
            while not done.wait(SAMPLE_SECONDS):
                self.samples.append((time.time(), max(map(_anonymous, _below(os.getpid())), default=0)))

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()

    def most(self, began: float, ended: float) -> int:
        return max((size for when, size in self.samples if began <= when <= ended), default=0)


def _below(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids = [int(number) for number in children.read_text().split()]
        except OSError:
            continue
        for child in pids:
            yield child
            yield from _below(child)


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024 if "RssAnon:" in status else 0


def run(flags: Sequence[str], folder: Path, sampler: Sampler | None = None) -> list[Ran]:
    """`rslwm compare` into a folder; the stages that it ran. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", "rslwm", "compare", *flags, "--compute.threads", "1", "--out", str(folder)]
    (folder / "events.jsonl").unlink(missing_ok=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    began, ran = dict[str, float](), list[Ran]()
    for line in (folder / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        when = datetime.fromisoformat(event["time"]).timestamp()
        if event["event"] == "started":
            began[event["key"]] = when
        elif event["event"] == "finished":
            start = began[event["key"]]
            most = sampler.most(start, when) if sampler else 0
            ran.append(Ran(event["kind"], event["label"], start, when, most))
    return ran


# -------------------------------------------------------------------------------------------------------- two workers


def workers(flags: Sequence[str], folder: Path) -> Table:
    """Wall clock from the first start to the last end, without the command's own imports and its report."""
    run([*flags, "--jobs", "1"], folder / "whole")
    seconds = dict[int, dict[str, float]]()
    for jobs in (1, 2):
        again = folder / f"jobs-{jobs}"
        shutil.rmtree(again, ignore_errors=True)
        (again / "stages").mkdir(parents=True)
        for stage in (folder / "whole" / "stages").iterdir():
            if stage.name.rpartition("-")[0] not in MEASURED:
                (again / "stages" / stage.name).symlink_to(stage.absolute())
        ran = run([*flags, "--jobs", str(jobs)], again)
        seconds[jobs] = {"both": _span(ran)}
        encoding = [stage for stage in ran if stage.kind in ("features", "latents")]
        seconds[jobs] |= {"encoding": _span(encoding), "evaluation": _span([s for s in ran if s not in encoding])}
    table = Table("", "1 worker, s", "2 workers, s", "faster", box=None, title=f"{len(ran)} stages")
    for what, one in seconds[1].items():
        two = seconds[2][what]
        table.add_row(what, f"{one:.1f}", f"{two:.1f}", f"{one / two:.2f}x")
    return table


def _span(ran: Sequence[Ran]) -> float:
    return max(stage.ended for stage in ran) - min(stage.began for stage in ran)


# ------------------------------------------------------------------------------------------------------- ten times


def episodes(flags: Sequence[str], folder: Path) -> Table:
    """One job at a time, so that a sample belongs to one stage."""
    table = Table("stage", "runs", "1x, s", "10x, s", "growth", "1x, MB", "10x, MB", box=None)
    found = list[dict[str, list[Ran]]]()
    for times in (1, 10):
        with Sampler().running() as sampler:
            more = ["--data.sim.episodes", str(times * EPISODES), "--jobs", "1"]
            ran = run([*flags, *more], folder / f"episodes-{times}x", sampler)
        kinds = defaultdict[str, list[Ran]](list)
        for stage in ran:
            kinds[f"metric {stage.label.split()[-1]}" if stage.kind == "metric" else stage.kind].append(stage)
        found.append(kinds)
    for kind, small in found[0].items():
        large = found[1][kind]
        one, ten = (sum(s.ended - s.began for s in stages) for stages in (small, large))
        sizes = (f"{max(s.anonymous for s in stages) / MB:.0f}" for stages in (small, large))
        table.add_row(kind, str(len(small)), f"{one:.1f}", f"{ten:.1f}", f"{ten / max(one, 0.1):.1f}x", *sizes)
    for times in (1, 10):
        table.add_row(*_report(folder / f"episodes-{times}x", times))
    return table


def _report(folder: Path, times: int) -> tuple[str, ...]:
    """Builds the report of a finished study, in a process of its own."""
    program = (
        "import sys, time; from pathlib import Path; from rslwm.report.page import build_report\n"
        "began = time.perf_counter(); page = build_report(Path(sys.argv[1]))\n"
        "print(time.perf_counter() - began, page.stat().st_size)"
    )
    with Sampler().running() as sampler:
        output = subprocess.run(
            [sys.executable, "-c", program, str(folder)], check=True, capture_output=True, text=True
        ).stdout
    seconds, size = output.split()[-2:]
    rows = pq.read_metadata(folder / "rows.parquet").num_rows
    what = f"report of {rows:,} rows: {float(seconds):.1f} s, {int(size) / MB:.2f} MB"
    memory = f"{max(size for _, size in sampler.samples) / MB:.0f}"
    return what, "", "", "", "", *((memory, "") if times == 1 else ("", memory))


def main() -> None:
    what, *flags = sys.argv[1:] or [""]
    measures = {"workers": workers, "episodes": episodes}
    if what not in measures:
        sys.exit(__doc__)
    keep = Path(flags.pop(flags.index("--keep") + 1)) if "--keep" in flags else None
    flags = [flag for flag in flags if flag != "--keep"] or DEFAULT
    with TemporaryDirectory(prefix="rslwm-bench-") as folder:
        Console(width=140).print(measures[what](flags, keep or Path(folder)))


if __name__ == "__main__":
    main()
