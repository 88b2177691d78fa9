"""rslwm rollout and eval: the commands that put a world model to data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro
from rich.table import Table

from rslwm.cli.flags import DataFlags
from rslwm.cli.output import console, report_failures
from rslwm.compute import ComputeConfig
from rslwm.data.config import DataConfig
from rslwm.data.video import VideoWriter
from rslwm.evals.config import EvalConfig
from rslwm.evals.replay import Replay, replay
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.latents.views import to_bytes
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.serialisation import ConfigError
from rslwm.shipping import located
from rslwm.study.checkpoint import clip_settings, evaluate, open_corpus, run_folder
from rslwm.study.config import StudyConfig
from rslwm.tensors import write_tensors
from rslwm.verdict.decide import Verdict, VerdictConfig, decide


@dataclass
class CheckpointCommand(DataFlags):
    """A command that puts a world model to its own data or to others."""

    checkpoint: tyro.conf.Positional[Path]
    """Folder of a world model, or the name of a shipped one, NAME@COLLECTION."""
    out: Path
    """Folder to write to."""
    data: str = ""
    """sim:tabletop, lerobot:FOLDER, hf://datasets/OWNER/NAME, rlds:FOLDER or hdf5:FILE; the episodes that the model was
    trained on if it isn't given."""
    camera: str = ""
    """Of these data; several, comma separated, for a model of several. The name in training if it isn't given."""
    episodes: int = 0
    """How many episodes the simulator records, if they are its; as many as in training if it isn't given. The first
    ones are the same, however many there are."""

    @property
    def folder(self) -> Path:
        """Of the world model."""
        return located(self.checkpoint)

    def source(self, model: WorldModel) -> tuple[DataConfig, Path]:
        """The data, and the folder of the stages that make them ready."""
        data = clip_settings(model, self.folder, self.data, self.camera)
        data = replace(data, sim=replace(data.sim, episodes=self.episodes or data.sim.episodes))
        if not self.data:
            return data, run_folder(self.folder, self.out)
        return replace(data, features=self.features, action_spec=self.action_spec), self.out  # other data, other names


_DEFAULTS = RolloutsConfig()
UNKNOWN = "The checkpoint doesn't say which episodes it was trained on: some may be among these."
SHOWN_SIDE = 256
"""Small frames are enlarged in the videos to about this many pixels."""


@dataclass
class Rollout(CheckpointCommand):
    """Let a world model continue recorded clips with their actions, beside what really happened.

    Writes a video a clip (left the truth, right the rollout), the generated latents, and prints PSNR per horizon step
    between its floor (the last frame copied) and its ceiling (encode and decode the truth).

    For instance:
      rslwm rollout runs/mine/checkpoints/small-vae --out runs/rollout
      rslwm rollout small-vae@tabletop --episodes 40 --out runs/rollout
      rslwm rollout runs/mine/checkpoints/small-vae --data lerobot:my_robot --future 16 --out runs/rollout
    """

    seen: bool = False
    """Roll out also clips of episodes that the model was trained on, which tells what it remembers; without it they are
    left out."""
    clips: int = 8
    """Number of clips."""
    context: int = _DEFAULTS.context
    """Real frames that a rollout starts from."""
    future: int = _DEFAULTS.future
    """Frames to generate."""
    sampling: SamplingConfig = _DEFAULTS.sampling
    seed: int = EvalConfig.seed
    """Of the choice of clips and of the noise."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def run(self) -> None:
        torch.set_num_threads(self.compute.threads)
        model = WorldModel.load(self.folder)
        data, stages = self.source(model)
        corpus = open_corpus(data, model, stages)
        asked = RolloutsConfig(self.clips, self.context, self.future, self.sampling)
        result = replay(model, corpus, asked, self.compute, self.seed, seen=self.seen)
        self._write(result, model.action_spec.hz)
        table = Table("PSNR in dB after", *(f"{k + 1}" for k in range(self.future)), box=None, header_style="dim")
        for name, values in result.psnr().items():
            table.add_row(name, *(f"{value:.2f}" for value in values.mean(0)))
        if model.seen is None:
            console().print(UNKNOWN)
        seen = model.seen.among(corpus) if model.seen else set()
        console().print(table, f"\n{len(result.clips)} clips in {self.out}")
        if seen:
            done = "are among the clips, too (--seen)" if self.seen else "were left out"
            console().print(f"{len(seen)} of {len(corpus.dataset)} episodes, on which the model was trained, {done}")

    def _write(self, result: Replay, hz: float) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        pairs = torch.cat([result.truth, result.rollout], 3)  # (N, T, H, 2 W, 3)
        zoom = max(1, SHOWN_SIDE // pairs.shape[2])
        frames = to_bytes(pairs)
        frames = frames.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
        for number, (clip, (episode, start)) in enumerate(zip(frames, result.clips, strict=True)):
            writer = VideoWriter(self.out / f"{number:02d}.mp4", hz, *clip.shape[1:3])
            writer.add(clip.numpy())
            writer.close()
            console().print(f"{number:02d}.mp4: {episode}, step {start}", markup=False, highlight=False)
        clips = "\n".join(f"{episode}, step {start}" for episode, start in result.clips)
        write_tensors({"latents": result.latents}, self.out / "latents.safetensors", {"clips": clips})


@dataclass
class Evaluate(CheckpointCommand):
    """Measure one world model with every metric, on any data whose actions mean the same.

    Probes are trained on the training episodes, everything is measured on held-out ones; each value stands between what
    knows nothing (floor) and what loses nothing (ceiling), with its interval over episodes. Writes rows.parquet, and
    what is printed as verdict.json.

    For instance:
      rslwm eval runs/mine/checkpoints/small-vae --out runs/eval
      rslwm eval runs/mine/checkpoints/small-vae --data lerobot:my_robot --evaluation.rollouts.clips 128 --out runs/eval
    """

    seen: bool = False
    """Measure also on held-out episodes that the model was trained on, which tells what it remembers; without it they
    are left out."""
    stream_above_kb: float = StudyConfig.stream_above_kb
    """Latents of which a frame takes more aren't stored, but encoded anew whenever they are read; 0 stores all."""
    jobs: int = 0
    """Stages that run side by side; 0 is as many as fit the cores."""
    metrics: tuple[str, ...] = StudyConfig.metrics
    """Metrics: core (those that cost little), all (that are installed), NAME, path/to/file.py:Class, each optionally as
    NAME[FIELD=VALUE,...]."""
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def run(self) -> None:
        if (self.out / "study.json").is_file():
            raise ConfigError(f"{self.out} holds a comparison, whose rows this would overwrite; give another --out")
        model = WorldModel.load(self.folder)
        data, stages = self.source(model)
        asked = {name: getattr(self, name) for name in ("metrics", "stream_above_kb", "evaluation", "compute")}
        config = StudyConfig(data=data, **asked)
        measured, seen = evaluate(self.folder, config, stages, self.jobs, self.seen)
        self.out.mkdir(parents=True, exist_ok=True)
        measured.rows.save(self.out / "rows.parquet")
        screen = console()
        verdict = decide(measured.rows, measured.infos, self.verdict)
        verdict.save(self.out / "verdict.json")
        screen.print(_table(verdict))
        for metric in measured.unavailable:
            screen.print(f"not available: {metric.metric}: {metric.reason}", markup=False)
        if model.seen is None:
            screen.print(UNKNOWN)
        elif seen:
            done = "are measured, too (--seen)" if self.seen else "are left out; --seen measures them, too"
            who = f"{seen[0]}, ..." if len(seen) > 1 else seen[0]
            screen.print(f"{len(seen)} held-out episodes that the model was trained on {done}: {who}", markup=False)
        screen.print(f"\nrows: {self.out / 'rows.parquet'}", markup=False, soft_wrap=True)
        if measured.failed:
            report_failures(measured.failed)


def _table(verdict: Verdict) -> Table:
    table = Table("axis", "metric", "value", "interval", "floor", "ceiling", "unit", "better", "units", box=None)
    for summary in verdict.metrics:
        info, bar = summary.info, summary.bars[0]
        better = "higher" if info.higher_is_better else "lower"
        # An analytic floor or ceiling, such as r = 0, has no rows.
        floor = bar.floor if info.floor_value is None else info.floor_value
        ceiling = bar.ceiling if info.ceiling_value is None else info.ceiling_value
        numbers = _number(bar.value), f"[{_number(bar.low)} {_number(bar.high)}]", _number(floor), _number(ceiling)
        unit = "" if info.unit == "1" else info.unit
        table.add_row(info.axis, info.name, *numbers, unit, better, str(summary.units))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
