"""World models of a finished run, packed small with a card each: to be given away, or to come with the package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rslwm.compute import ComputeConfig
from rslwm.evals.config import EvalConfig
from rslwm.evals.replay import replay
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.model.world_model import WorldModel, replacing
from rslwm.serialisation import ConfigError, load
from rslwm.shipping import NAME, Card, Check, Measure, Score, sums
from rslwm.study.checkpoint import clip_settings, open_corpus
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.record import RunRecord
from rslwm.study.subjects import Variant
from rslwm.tensors import read_weights, write_packed
from rslwm.types import DataError
from rslwm.verdict.decide import Verdict
from rslwm.verdict.scale import Bar, Summary

EPISODES = 24
"""That the simulator records to check a card, about a fifth of which is held out."""
CHECKED = RolloutsConfig(clips=16, future=4)
COMPUTE = ComputeConfig("cpu", "float32")
TOLERANCE = 0.1
"""In dB, by which the PSNR may differ on another machine, whose renderer and arithmetic round otherwise."""


@dataclass(frozen=True)
class Packed:
    """A folder that was written, and its card."""

    folder: Path
    card: Card

    @property
    def nbytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def ship(run: Path, collection: str, out: Path, seed: int = 0) -> Iterator[Packed]:
    """Pack the world models of a finished run, with their spaces, one after the other as they are asked for.

    Each becomes ``out/collection/NAME``, a checkpoint like any other: matrices in 8 bits, without the parts of encoders
    that only training uses. Where the simulator recorded the data, the card says what these very files measure.

    Args:
        run: its folder.
        seed: the number of the training, 0 is the first.

    Raises:
        ConfigError: the collection can't be called so; the run has several sizes, or no such training; an encoder is
            code of the user's own, which the folder can't bring along.
        DataError: the run isn't finished, or a world model doesn't say what it was trained on.
    """
    if not re.fullmatch(NAME, f"any@{collection}"):
        raise ConfigError(f"--as {collection!r}: a collection begins with a letter; letters, digits and . - _ follow")
    verdict, record = Verdict.load(run / "verdict.json"), RunRecord.load(run)
    config = load(StudyConfig, file := run / "config.yaml")
    if config.sizes:
        raise ConfigError(f"{file}: sizes is {', '.join(config.sizes)}; only runs without sizes are packed")
    chosen = [variant for variant in Study(config).compared if variant.seed == variant.entry.seed + seed]
    if not chosen:
        raise ConfigError(f"--seed {seed}: {run} trained every space {config.seeds} time(s); the first is 0")
    with TemporaryDirectory() as recorded:
        for variant in chosen:
            yield _pack(run, variant, collection, out, _card(variant, collection, verdict, record), Path(recorded))


def _pack(run: Path, variant: Variant, collection: str, out: Path, card: Card, recorded: Path) -> Packed:
    source, target = run / "checkpoints" / variant.folder, out / collection / variant.entry.name
    model = _open(source)
    with replacing(target) as new:
        model.space.encoder.take_down()
        model.save(new)
        for file in new.rglob("*.safetensors"):
            write_packed(read_weights(file), file)
        if model.data and model.data.uri.startswith("sim:"):
            before, now = (check(folder, recorded, EPISODES) for folder in (source, new))
            card = replace(card, check=Check(EPISODES, *now, before.rollout, before.decoded))
        card = replace(card, files=sums(new))
        card.save(new)
    return Packed(target, card)


def _open(source: Path) -> WorldModel:
    model, space = WorldModel.load(source), source / "space/space.yaml"
    if model.seen is None:
        raise DataError(f"{source} doesn't say which episodes it was trained on; train it again with this version")
    if ".py:" in (reference := model.space.config.reference):
        raise ConfigError(
            f"{space}: reference is {reference!r}, code that lies on this machine; make it an installed package"
        )
    return model


class Checked(NamedTuple):
    """Number of clips, and PSNR in dB, see :class:`rslwm.shipping.Check`."""

    clips: int
    rollout: float
    copied: float
    decoded: float


def check(named: Path | str, recorded: Path, episodes: int) -> Checked:
    """Roll out a world model on the unseen ones among the first ``episodes`` of its simulator, in single precision on
    the CPU. ``recorded`` is a folder that keeps the episodes for the next. Raises what :func:`open_corpus` does."""
    model = WorldModel.load(named)
    trained = clip_settings(model, Path(named))
    data = replace(trained, sim=replace(trained.sim, episodes=episodes))
    result = replay(model, open_corpus(data, model, recorded), CHECKED, COMPUTE, EvalConfig.seed)
    found = {name: float(values.mean()) for name, values in result.psnr().items()}
    return Checked(len(result.clips), found["rollout"], found["copy last frame"], found["encode-decode"])


def _card(variant: Variant, collection: str, verdict: Verdict, record: RunRecord) -> Card:
    """What the run says of a space; files and check are still to come."""
    name = variant.entry.name
    (space,) = (space for space in record.spaces if space.name == name)
    place = space.seeds.index(variant.seed)
    bars = {metric.info.name: (metric, bar) for metric in verdict.metrics for bar in metric.bars if bar.latent == name}
    found = {axis: s for axis, known in verdict.axes.items() for s in known.standings if s.latent == name}
    return Card(
        name=name,
        collection=collection,
        command=record.command,
        versions={part: record.versions[part] for part in ("rslwm", "torch") if part in record.versions},
        seed=variant.seed,
        data=record.data,
        trainings=len(space.seeds),
        scores={axis: Score(standing.score, standing.low, standing.high) for axis, standing in found.items()},
        metrics={metric: _measure(*pair, place, len(space.seeds)) for metric, pair in bars.items()},
        costs=space.cost,
        files={},
    )


def _measure(metric: Summary, bar: Bar, place: int, trainings: int) -> Measure:
    info, here = metric.info, bar.trainings[place] if len(bar.trainings) == trainings else None
    floor = bar.floor if info.floor_value is None else info.floor_value  # one that is known has no rows
    ceiling = bar.ceiling if info.ceiling_value is None else info.ceiling_value
    return Measure(bar.value, bar.low, bar.high, floor, ceiling, info.unit, here)
