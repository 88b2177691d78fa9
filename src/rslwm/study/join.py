"""One study out of several runs: other seeds or other spaces, run at another time or on another machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from rslwm.evals.rows import Rows
from rslwm.serialisation import ConfigError, dump, to_dict
from rslwm.study.config import StudyConfig
from rslwm.study.record import Judged, RunRecord, SpaceRecord, judge
from rslwm.verdict.decide import Verdict
from rslwm.verdict.training_noise import Circumstances

T = TypeVar("T")

KEPT = ("clips", "films")
"""Folders of pictures; those of a space come from the first run that has it."""


def join(runs: Sequence[Path], out: Path, command: str = "") -> Verdict:
    """Put the rows of finished runs together in the folder ``out``, and decide from all of them.

    The runs have one configuration but for their latent spaces and seeds. What is joined has no stages: it can be
    reported and joined again, not resumed.

    Raises:
        ConfigError: ``out`` is one of them, or is a run of its own; they differ in more, or a space was trained under
            a seed in two of them.
        DataError: a folder holds no finished run.
    """
    if (out / "stages").exists() or out.resolve() in {run.resolve() for run in runs}:
        raise ConfigError(f"{out} is a run of its own; name another folder for what is joined")
    found = {run: Judged.load(run) for run in runs}
    _require_alike(found)
    _require_apart(found)
    out.mkdir(parents=True, exist_ok=True)
    Rows.concatenate([run.rows for run in found.values()]).save(out / "rows.parquet")
    replace(_record([run.record for run in found.values()]), command=command).save(out)
    dump(_config([run.config for run in found.values()]), out / "config.yaml")
    for name in KEPT:
        shutil.rmtree(out / name, ignore_errors=True)
        for run in reversed(runs):
            if (run / name).is_dir():
                shutil.copytree(run / name, out / name, dirs_exist_ok=True)
    return judge(out)


def _require_alike(found: dict[Path, Judged]) -> None:
    """Raises :class:`ConfigError` if two runs differ in what their results depend on, but for spaces and seeds."""
    (first, one), *others = found.items()
    usual = Circumstances.of(one.tested, to_dict(StudyConfig()), {})
    for run, other in others:
        if unlike := other.circumstances().unlike(one.circumstances(), usual):
            raise ConfigError(f"{first} and {run} aren't pieces of one study: {'; '.join(unlike)}")
        prints = [judged.record.data.get("fingerprint") for judged in (one, other)]
        if prints[0] != prints[1]:  # of the same configuration: another machine or version recorded them
            raise ConfigError(
                f"{first} and {run} were measured on other episodes (fingerprints {prints[0]} and {prints[1]}), though "
                "their configurations are alike. Run both with one version, on one kind of machine."
            )
        if ours := one.metrics.keys() ^ other.metrics.keys():
            raise ConfigError(f"{first} and {run} measured different things: {', '.join(sorted(ours))} in one only")


def _require_apart(found: dict[Path, Judged]) -> None:
    trained: dict[tuple[str, int], Path] = {}
    for run, judged in found.items():
        for space in judged.record.spaces:
            for seed in space.seeds:
                if (earlier := trained.setdefault((space.name, seed), run)) != run:
                    raise ConfigError(f"{space.name} was trained under seed {seed} in {earlier} and in {run}")


def _config(configs: Sequence[StudyConfig]) -> StudyConfig:
    latents = tuple(dict.fromkeys(name for config in configs for name in config.latents))
    seeds = {seed for c in configs for seed in range(c.first_seed, c.first_seed + c.seeds)}
    return replace(configs[0], latents=latents, seeds=len(seeds), first_seed=min(seeds))


def _record(records: Sequence[RunRecord]) -> RunRecord:
    names = dict.fromkeys(space.name for record in records for space in record.spaces)
    spaces = {name: [s for record in records for s in record.spaces if s.name == name] for name in names}
    return replace(
        records[0],
        spaces=tuple(map(_space, spaces.values())),
        unavailable=_each(entry for record in records for entry in record.unavailable),
        failed=_each(entry for record in records for entry in record.failed),
        notes=_each(note for record in records for note in record.notes),
        timings=_each(timing for record in records for timing in record.timings),
    )


def _each(entries: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(entries))


def _space(pieces: Sequence[SpaceRecord]) -> SpaceRecord:
    """Costs are means over trainings, memory is the largest."""
    counts = [len(piece.seeds) for piece in pieces]
    cost = {k: float(np.average([p.cost[k] for p in pieces], weights=counts)) for k in pieces[0].cost}
    cost["peak_memory_mb"] = max(piece.cost["peak_memory_mb"] for piece in pieces)
    return replace(pieces[0], seeds=tuple(sorted(seed for piece in pieces for seed in piece.seeds)), cost=cost)
