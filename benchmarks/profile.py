"""Where the time of a piece of work goes, by kind of operation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from rslwm.bench.measure import Work, timed

KINDS: dict[str, str] = {
    "matrix products": r"mm|addmm|linear_backward|mkldnn_linear.*|.*convolution.*",
    "attention": r"bmm|baddbmm|_softmax.*|_scaled_dot_product.*",
    "norms": r"linalg_vector_norm|norm|rsqrt|_fused_rms_norm.*|native_layer_norm.*",
    "casts and copies": r"copy_|_to_copy|cat|clone|contiguous|fill_|zero_|(zeros|empty|new).*|index_select|repeat",
    "elementwise and sums": r".*",
}
"""Kinds of PyTorch operations: the first pattern that matches a name, without its namespace, decides."""

HOLLOW = (
    r"(_unsafe_|_reshape_)?(view|alias)(_as_.*)?|reshape.*|t|.T|numpy_T|transpose|permute|as_strided_?|expand.*|slice|"
    r"select|squeeze|unsqueeze|detach_?|unbind|split.*|chunk|flatten|unflatten|narrow|lift_fresh|result_type|item|"
    r"_local_scalar.*|resolve_.*|_conj|to|linear|matmul|softmax"
)
"""Operations that only look differently at a tensor or call others: their time is overhead."""

OPTIMISER, BETWEEN = "optimiser", "between operations"


@dataclass(frozen=True)
class Share:
    """Time of one kind of operation."""

    kind: str
    seconds: float
    share: float
    """Of the whole."""
    calls: int
    costliest: str
    """The operation of this kind that took longest."""


def shares(work: Work) -> list[Share]:
    """Time of one run by kind, the largest first; runs twice, the first time to warm up.

    An operation counts without those that it calls. What is left of the wall-clock time, Python above all, is between
    operations. The profiler itself slows down whatever is made of many small operations.
    """
    timed(work)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_initialized() else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        seconds = timed(work)
    spent: dict[str, dict[str, list[float]]] = {}
    for event in profiler.events():
        if event.name.startswith("aten::") and not re.fullmatch(HOLLOW, event.name.removeprefix("aten::")):
            spent.setdefault(_kind(event), {}).setdefault(event.name, []).append(_seconds(event))
    found = [
        Share(
            kind,
            total := sum(map(sum, names.values())),
            total / seconds,
            sum(map(len, names.values())),
            max(names, key=lambda name: sum(names[name])).removeprefix("aten::"),
        )
        for kind, names in spent.items()
    ]
    rest = seconds - sum(share.seconds for share in found)
    return sorted([*found, Share(BETWEEN, rest, rest / seconds, 0, "")], key=lambda share: -share.seconds)


def publish(name: str, found: Sequence[Share], out: Path | None = None) -> None:
    """Print a row a kind; with ``out`` also write ``name.json`` there."""
    Console().print(_table(found))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(json.dumps([asdict(share) for share in found], indent=1) + "\n")


def _table(found: Sequence[Share]) -> Table:
    shown = Table("one step of ours", "ms", "share", "calls", "costliest", box=None, header_style="dim", pad_edge=False)
    for share in found:
        shown.add_row(
            share.kind, f"{1000 * share.seconds:.1f}", f"{share.share:.1%}", str(share.calls), share.costliest
        )
    return shown


def _kind(event: FunctionEvent) -> str:
    above: FunctionEvent | None = event
    while above is not None:
        # Clipping and averaging are the only ones that work on lists of tensors.
        if above.name.startswith(("Optimizer.", "aten::_foreach", "aten::_fused_adam")):
            return OPTIMISER
        above = above.cpu_parent
    name = event.name.removeprefix("aten::")
    return next(kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name))


def _seconds(event: FunctionEvent) -> float:
    on_device = torch.cuda.is_initialized()
    return (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6
