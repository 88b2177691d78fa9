"""How fast policies are tried inside a world model: many at once, and one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import tyro
from rich.table import Table

from rslwm.actors import policies
from rslwm.bench.benchmark import Benchmark
from rslwm.bench.measure import Case
from rslwm.compute import generator
from rslwm.envs.imagined import Imagined
from rslwm.evals.imagined_trials import imagine
from rslwm.evals.judges.seen import SeenJudge
from rslwm.evals.policies import PoliciesConfig, look
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.serialisation import ConfigError
from rslwm.sim.tasks import Task

WORDS, TASK = "push the red cube to the blue square", Task("push", "red", "blue")


@dataclass
class Policy(Benchmark):
    """Measure how fast a policy is tried inside a world model, and its trials are judged.

    For instance:
      rslwm bench policy small-vae@tabletop
      rslwm bench policy small-vae@tabletop --trials 200 --out runs/bench
    """

    checkpoint: tyro.conf.Positional[Path] = Path("small-vae@tabletop")
    """Folder of the world model, or the name of a shipped one, NAME@COLLECTION."""
    policy: str = ""
    """A policy of the ladder; the middle one by default."""
    trials: int = PoliciesConfig().trials.trials
    """How many trials are played at once."""
    actions: int = PoliciesConfig().trials.actions
    """How many actions a trial has."""
    steps: int = PoliciesConfig().sampling.steps
    """How many denoising steps generate a frame."""

    def cases(self, folder: Path) -> list[Case]:
        if self.trials < 1:
            raise ConfigError(f"trials is {self.trials}; at least 1 can be timed")
        model = WorldModel.load(self.checkpoint).for_inference(self.compute)
        at_once, alone = (partial(self.play, model, places) for places in (self.trials, 1))
        return [
            Case(f"{self.trials} trials at once", at_once, self.trials, "trials", warm_up=alone),
            Case("one trial at a time", alone, 1, "trials", warm_up=alone),
        ]

    def play(self, model: WorldModel, places: int) -> None:
        """So many trials, which begin with grey pictures: what they show doesn't change what they take."""
        known = policies.names()
        actor = policies.load(self.policy or known[len(known) // 2])
        side, context = model.space.config.image_size, PoliciesConfig().trials.context
        frames = torch.full((places, context, side, side * model.space.config.views, 3), 128, dtype=torch.uint8)
        past = torch.zeros(places, context - 1, model.action_spec.dims)
        noise = generator(0, "bench policy")
        world = Imagined(model, SamplingConfig(self.steps), noise, ahead=self.actions, decode=True)
        played = imagine(actor, world, frames, past, (WORDS,) * places, (TASK,) * places, self.compute)
        SeenJudge(look, hold=2, ever=True).when(played.footage)

    def measure(self, folder: Path) -> tuple[Table, dict[str, object]]:
        shown, record = super().measure(folder)
        rate = record["measurements"][0]["rate"]
        shown.caption = f"2,400 trials would take {2400 / rate / 60:.1f} min"
        return shown, record
