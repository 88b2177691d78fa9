"""A study at internet scale, in simulation: the real graph of stages, its counted FLOPs and the real schedule, on a
cluster that is made up: stragglers, failures, preemption, and a file system with a limit.

python -m benchmarks.scale [--out FOLDER] prints a table and writes scale.svg and scale.json.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rslwm.run.runner import Schedule
from rslwm.run.stage import Stage, closure
from rslwm.study.config import BRIDGE
from rslwm.study.estimate import GPUS
from rslwm.study.graph import Study
from rslwm.study.stages.base import Sizes

DAY, HOUR = 86400.0, 3600.0


@dataclass(frozen=True)
class Data:
    """A data set: episodes and frames of one camera."""

    name: str
    episodes: int
    frames: int


DATA = (
    Data("BridgeData V2", 60_064, 2_255_591),  # meta/info.json of its LeRobot v3 conversion; the paper: 60,096
    Data("DROID", 76_000, 18_900_000),  # arXiv 2403.12945: 76k trajectories, 350 h, at 15 Hz
    Data("Open X-Embodiment", 1_000_000, 50_000_000),  # arXiv 2310.08864: over 1M trajectories; 50 frames each assumed
)
COUNTS = (10, 30, 100, 300, 1000)
"""GPUs."""
TRAINED = ("world-model", "adapter", "decoder")
"""Kinds that take as many epochs whatever the data, that is as many times more steps as there are more frames."""
SHARES = {"world-model": 0.36, "adapter": 0.36, "decoder": 0.36, "features": 0.55, "latents": 0.55}
"""Of the peak of matrix products, as docs/performance.md has measured it: training of a DiT-S, encoding by a ViT-L."""
OTHER_SHARE = 0.2
DECODED = 350.0
"""Frames that a core decodes a second (35 clips of 10, docs/performance.md)."""
FIXED = 10.0
"""Seconds that any stage takes: a process that imports everything, and what isn't counted in FLOPs."""


@dataclass(frozen=True)
class Cluster:
    """What a study runs on, and what goes wrong there."""

    gpus: int
    rate: float = GPUS["H100"]
    """FLOP/s of one at its peak."""
    bandwidth: float = 50e9
    """Bytes a second of the shared file system, for all."""
    node_bandwidth: float = 5e9
    """And for one stage."""
    stragglers: float = 0.05
    """Share of stages that are slower by ``slowness``."""
    slowness: float = 2.0
    failure_hours: float = 50_000.0
    """Mean time between failures of one GPU: 419 in 54 days of 16,384 (arXiv 2407.21783)."""
    preemption_hours: float = 24.0
    """Mean time between preemptions of one job; 0 for never."""
    checkpoint_seconds: float = 600.0
    """Between two of a training."""
    restart_seconds: float = 300.0
    """Until a stage that was ended runs again."""


@dataclass(frozen=True)
class Work:
    """What a stage takes by itself: seconds of one GPU at its measured speed, of a CPU core, and bytes."""

    kind: str
    flops: float
    share: float
    core_seconds: float
    moved: float
    processes: int
    gpu: bool


@dataclass(frozen=True)
class Outcome:
    """Of one simulated study; GPU seconds are those that stages held."""

    seconds: float
    held: float
    lost: float
    chain: float
    """Seconds of the longest chain of stages with nothing going wrong."""
    driver: float
    """Seconds that this process, as the driver of a real run, spent on deciding what comes next."""
    slowest: Mapping[str, float]
    """Seconds of that chain by kind."""


class Plan:
    """The stages of a study on some data, and what each takes."""

    def __init__(self, targets: Sequence[Stage[Any]], data: Data) -> None:
        self.targets, self.data = targets, data

    @cached_property
    def works(self) -> dict[Stage[Any], Work]:
        return {stage: self._work(stage) for stage in closure(self.targets)}

    def _work(self, stage: Stage[Any]) -> Work:
        more = self.data.frames / DATA[0].frames if stage.kind in TRAINED else 1.0
        demand = stage.demand(Sizes(DATA[0].frames if stage.kind in TRAINED else self.data.frames))
        decoding = self.data.frames / DECODED if stage.kind == "frames" else 0.0
        return Work(
            stage.kind,
            demand.flops * more,
            SHARES.get(stage.kind, OTHER_SHARE),
            decoding,
            demand.disk + more * _read(stage),
            stage.processes,
            stage.accelerated,
        )


def _read(stage: Any) -> float:
    """Bytes of latents that a training reads."""
    source = getattr(stage, "latents", None) or getattr(stage, "features", None)
    if stage.kind not in TRAINED or source is None or source.streamed:
        return 0.0
    frames = stage.settings.dit.max_frames if stage.kind == "world-model" else 1
    return stage.settings.optim.samples * frames * source.spec.bytes_per_frame


def seconds(work: Work, cluster: Cluster, busy: int = 1) -> float:
    """Of a stage beside ``busy`` others with nothing going wrong: reading and computing overlap."""
    computing = work.flops / (cluster.rate * work.share * work.processes) + work.core_seconds
    moving = work.moved / min(cluster.node_bandwidth, cluster.bandwidth / max(busy, 1))
    return FIXED + max(computing, moving)


def disturbed(took: float, work: Work, cluster: Cluster, draw: random.Random) -> tuple[float, float]:
    """Seconds with what goes wrong, and those of them that were lost: since the last checkpoint, and to restart."""
    if draw.random() < cluster.stragglers:
        took *= cluster.slowness
    rate = (work.processes / cluster.failure_hours if work.gpu else 0.0) / HOUR
    rate += 1 / (cluster.preemption_hours * HOUR) if cluster.preemption_hours else 0.0
    elapsed, lost, done = 0.0, 0.0, 0.0
    while rate and (gap := draw.expovariate(rate)) < took - done:
        kept = (done + gap) // cluster.checkpoint_seconds * cluster.checkpoint_seconds if work.kind in TRAINED else 0.0
        wasted = done + gap - kept + cluster.restart_seconds
        elapsed, lost, done = elapsed + gap + cluster.restart_seconds, lost + wasted, kept
        if elapsed > 100 * took:
            raise RuntimeError(f"a {work.kind} stage of {took / HOUR:.0f} h never ends at this rate of preemption")
    return elapsed + took - done, lost


def simulate(plan: Plan, cluster: Cluster, seed: int) -> Outcome:
    """One study from start to end, under the schedule that real runs have."""
    draw, works = random.Random(seed), plan.works
    schedule = Schedule(plan.targets, lambda stage: False)
    free, clock, held, lost, driver = cluster.gpus, 0.0, 0.0, 0.0, 0.0
    events, numbers = list[tuple[float, int, Stage[Any], float]](), itertools.count()

    def taken(stage: Stage[Any]) -> int:
        return min(works[stage].processes, cluster.gpus) if works[stage].gpu else 0

    def room(stage: Stage[Any]) -> bool:
        return taken(stage) <= free

    while True:
        began = time.perf_counter()
        while (stage := schedule.next(room)) is not None:
            took, wasted = disturbed(seconds(works[stage], cluster, len(events) + 1), works[stage], cluster, draw)
            free, held, lost = free - taken(stage), held + took * taken(stage), lost + wasted * taken(stage)
            heapq.heappush(events, (clock + took, next(numbers), stage, took))
        driver += time.perf_counter() - began
        if not events:
            break
        clock, _, stage, took = heapq.heappop(events)
        schedule.finish(stage, took)
        free += taken(stage)
    chain, by_kind = longest(plan, cluster)
    return Outcome(clock, held, lost, chain, driver, by_kind)


def longest(plan: Plan, cluster: Cluster) -> tuple[float, dict[str, float]]:
    """Seconds of the longest chain, in all and by kind."""
    ends: dict[Stage[Any], tuple[float, dict[str, float]]] = {}
    for stage, work in plan.works.items():
        before, kinds = max((ends[need] for need in stage.needs.values()), key=lambda end: end[0], default=(0.0, {}))
        own = seconds(work, cluster)
        ends[stage] = before + own, {**kinds, work.kind: kinds.get(work.kind, 0.0) + own}
    return max(ends.values(), key=lambda end: end[0])


# ----------------------------------------------------------------------------------------------------------- its output


def draw_figure(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Days against GPUs: solid with all that goes wrong, dotted what the GPU hours alone would take."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "scale"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True)
    for number, data in enumerate(DATA):
        for world_size, style in ((1, "--"), (4, "-")):
            runs = [run for run in found if run["data"] == data.name and run["world_size"] == world_size]
            gpus = [run["gpus"] for run in runs]
            label = f"{data.name}, {world_size} GPU(s) a training"
            axes[0].plot(gpus, [run["days"] for run in runs], style, color=f"C{number}", label=label, marker=".")
            axes[1].plot(gpus, [run["useful"] for run in runs], style, color=f"C{number}", marker=".")
        axes[0].plot(gpus, [run["ideal_days"] for run in runs], ":", color=f"C{number}", lw=1)
    axes[0].set(xscale="log", yscale="log", xlabel="GPUs", ylabel="days of a study (dotted: GPU hours / GPUs)")
    axes[1].set(xscale="log", ylim=(0, 1), xlabel="GPUs", ylabel="share of GPU time that is of use")
    axes[0].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def measure(seeds: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    found = []
    for world_size in (1, 4):
        compute = replace(BRIDGE.compute, device="cuda", dtype="bfloat16", world_size=world_size)
        targets = Study(replace(BRIDGE, compute=compute)).targets
        for data in DATA:
            say(f"{data.name}, {world_size} process(es) a training")
            plan = Plan(targets, data)
            for gpus in COUNTS:
                cluster = Cluster(gpus)
                outcomes = [simulate(plan, cluster, seed) for seed in range(seeds)]
                days = statistics.median(outcome.seconds for outcome in outcomes) / DAY
                computing = sum(
                    seconds(w, cluster) * min(w.processes, gpus) for w in plan.works.values() if w.gpu
                )  # fmt: skip
                first = outcomes[0]
                chain = {kind: round(s / DAY, 2) for kind, s in first.slowest.items() if s > 0.01 * first.chain}
                found.append(
                    {
                        "data": data.name, "world_size": world_size, "gpus": gpus, "stages": len(plan.works),
                        "days": days, "ideal_days": computing / gpus / DAY, "chain_days": first.chain / DAY,
                        "useful": computing / (gpus * days * DAY),
                        "lost": statistics.median(o.lost / o.held for o in outcomes),
                        "driver_seconds": statistics.median(o.driver for o in outcomes),
                        "moved_tb": sum(work.moved for work in plan.works.values()) / 1e12,
                        "chain": chain,
                    }
                )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    parser.add_argument("--seeds", type=int, default=5, help="simulations of each cluster, of which the median counts")
    given, console = parser.parse_args(), Console(width=150)
    found = measure(given.seeds, lambda text: console.print(text, style="dim"))
    columns = ("data", "world_size", "gpus", "days", "ideal_days", "chain_days", "useful", "lost", "driver_seconds")
    table = Table(*columns, box=None)
    for run in found:
        table.add_row(*(f"{run[c]:.2f}" if isinstance(run[c], float) else str(run[c]) for c in columns))
    console.print(table)
    for run in found[:: len(COUNTS)]:
        moved = f"{run['moved_tb']:.1f} TB moved"
        console.print(f"{run['data']}, {run['world_size']}: {run['stages']} stages, {moved}, chain {run['chain']}")
    given.out.mkdir(parents=True, exist_ok=True)
    record = {"cluster": asdict(Cluster(0)), "data": [asdict(data) for data in DATA], "found": found}
    (given.out / "scale.json").write_text(json.dumps(record, indent=1))
    draw_figure(found, given.out / "scale.svg")
    console.print(f"figure: {given.out / 'scale.svg'}")


if __name__ == "__main__":
    main()
