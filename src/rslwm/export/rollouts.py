"""The rollouts of a finished comparison as episodes: what truly happened, beside it what every space imagined under the
same actions, the actions that are read off that, and how a judge took it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from rslwm.evals.base import Need
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.inverse_dynamics import InverseProbe
from rslwm.evals.judges.base import Footage
from rslwm.evals.judges.probe import ProbeJudge
from rslwm.evals.probe import Probe, TrainedProbe
from rslwm.evals.rollouts import Rollouts
from rslwm.evals.rows import TRUTH
from rslwm.evals.success import SuccessProbe
from rslwm.latents.views import to_bytes
from rslwm.run.runner import Runner
from rslwm.serialisation import ConfigError, load
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.stages.metric import ProbeStage, RolloutsStage
from rslwm.study.subjects import Variant
from rslwm.types import ActionSpec, Episode

JUDGED = "judged_success"
"""The state that holds what the success probe says of the whole clip, a number in [0, 1] of each space."""


def imagined(name: str) -> str:
    """The camera that shows what a space imagines."""
    return f"imagined_{_plain(name)}"


def read_back(name: str) -> str:
    """The state that holds the actions read off what a space imagines, in units."""
    return f"read_back_{_plain(name)}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)


@dataclass(frozen=True)
class _Space:
    """N clips of T frames as one space has them."""

    evaluation: Evaluation
    rollouts: Rollouts
    probes: dict[Probe, TrainedProbe]
    """Those that the run has trained."""

    def frames(self, true: torch.Tensor) -> np.ndarray:
        """(N, T, H, W, 3) uint8, the context as it truly was."""
        context = self.rollouts.context.shape[1]
        return to_bytes(torch.cat([true[:, :context], self.evaluation.decode(self.rollouts.generated)], 1)).numpy()

    def read(self) -> np.ndarray | None:
        """Normalised actions (N, T-1, A) as they are read off every two frames; None without that probe."""
        if not (probe := self.probes.get(InverseProbe(1))):
            return None
        clip = self.rollouts.clip
        pairs = torch.stack([clip[:, :-1], clip[:, 1:]], 2)
        return probe.apply(pairs.flatten(0, 1), self.evaluation.compute).unflatten(0, pairs.shape[:2]).numpy()

    def judge(self, words: tuple[str, ...]) -> np.ndarray | None:
        """(N,) in [0, 1]; None without that probe, or where the clips are shorter than what it reads."""
        clip = self.rollouts.clip
        for asked, probe in self.probes.items():
            if isinstance(asked, SuccessProbe) and asked.frames <= clip.shape[1]:
                judge = ProbeJudge(probe, asked.frames, self.evaluation.compute)
                return judge.judge(Footage(words, latents=clip)).score
        return None


class RunRollouts:
    """The rollouts of a run, of every space those of its first training.

    Raises:
        ConfigError: the folder isn't a run's, or its rollouts aren't there.
    """

    def __init__(self, run: Path) -> None:
        if not (file := run / "config.yaml").is_file():
            raise ConfigError(f"{file} does not exist; name a folder that `rslwm compare` was given as --out")
        self.study, self.runner = Study(load(StudyConfig, file)), Runner(run)
        first: dict[str, Variant] = {}
        for variant in self.study.compared:
            first.setdefault("-".join(filter(None, (variant.entry.name, variant.size))), variant)
        if missing := [name for name, v in first.items() if not self.runner.finished(v.pull(RolloutsStage))]:
            raise ConfigError(
                f"{run}: the rollouts of {', '.join(missing)} aren't there; let `rslwm compare` with --out {run} end"
            )
        self.spaces = {name: self._opened(variant) for name, variant in first.items()}
        windows = [space.rollouts.windows for space in self.spaces.values()]
        if not all(np.array_equal(windows[0], other) for other in windows):
            raise ConfigError(f"{run}: its spaces were rolled out on different clips, which can't stand together")

    def _opened(self, variant: Variant) -> _Space:
        needs: set[Need] = {need for metric in self.study.metrics.values() for need in metric.needs.values()}
        work, stage, probes = self.runner.workspace, variant.pull(RolloutsStage), {}
        for need in needs:
            if isinstance(need, Probe):
                trains = ProbeStage.of_probe(need, variant.trained)
                if self.runner.finished(trains) and not (probe := work.open(trains)).absent:
                    probes[need] = probe
        return _Space(stage.evaluation(work), work.open(stage), probes)

    @property
    def _any(self) -> _Space:
        return next(iter(self.spaces.values()))

    @property
    def spec(self) -> ActionSpec:
        """What actions mean between two frames."""
        return self._any.evaluation.corpus.action_spec

    def __len__(self) -> int:
        return len(self._any.rollouts.windows)

    @cached_property
    def state_names(self) -> dict[str, list[str]]:
        """Of the states of every episode their dimensions' names."""
        read = {read_back(name): [*self.spec.names] for name, found in self._read.items() if found is not None}
        return read | ({JUDGED: [*self.spaces]} if self._judged is not None else {})

    @cached_property
    def _read(self) -> dict[str, np.ndarray | None]:
        return {name: space.read() for name, space in self.spaces.items()}

    @cached_property
    def _words(self) -> tuple[str, ...]:
        instructions = self._any.evaluation.corpus.dataset.instructions
        return tuple(instructions[episode] for episode, _ in self._any.rollouts.windows)

    @cached_property
    def _judged(self) -> np.ndarray | None:
        """(N, spaces); None unless all are judged."""
        scores = [score for space in self.spaces.values() if (score := space.judge(self._words)) is not None]
        return np.stack(scores, 1).astype(np.float32) if len(scores) == len(self.spaces) else None

    def episodes(self) -> Iterator[Episode]:
        """One a clip: the cameras ``truth`` and :func:`imagined`, the actions in units, the states
        :func:`read_back` and :data:`JUDGED` as far as the run has trained what reads them. The last action stands
        still, since it leads to a frame that isn't there."""
        one, spec = self._any, self.spec
        frames, dataset = one.rollouts.clip.shape[1], one.evaluation.corpus.dataset
        true = one.evaluation.pixels(one.rollouts.windows, frames)
        cameras = {TRUTH: to_bytes(true).numpy()}
        cameras |= {imagined(name): space.frames(true) for name, space in self.spaces.items()}
        for number, (episode, start) in enumerate(one.rollouts.windows):
            asked = _with_last(one.rollouts.actions[number].numpy(), spec)
            states = {
                read_back(name): np.concatenate([spec.denormalise(found[number]), asked[-1:]])
                for name, found in self._read.items()
                if found is not None
            }
            if self._judged is not None:
                states[JUDGED] = np.tile(self._judged[number], (frames, 1))
            yield Episode(
                id=f"{dataset.ids[episode]}, step {start}",
                frames={camera: shown[number] for camera, shown in cameras.items()},
                actions=asked,
                instruction=self._words[number],
                states=states,
                info={"context": one.rollouts.context.shape[1], "episode": dataset.ids[episode], "step": int(start)},
            )


def _with_last(actions: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Normalised actions (T-1, A) in units, and one more that stands still."""
    return spec.denormalise(np.concatenate([actions, np.nan_to_num(spec.still(actions[-1]))[None]]))
