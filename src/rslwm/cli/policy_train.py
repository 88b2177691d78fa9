"""rslwm policy train."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.table import Table

from rslwm.actors import policies
from rslwm.actors.base import Actor
from rslwm.actors.blind import Random, Still
from rslwm.actors.expert import Expert
from rslwm.actors.policies import EYES, JUDGE, LADDER, PolicyConfig
from rslwm.actors.policy import FRAME_SKIP
from rslwm.cli.output import console, counting
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.envs.trials import ACTIONS, Successes, true_success
from rslwm.files import write_whole
from rslwm.registry import UnknownName
from rslwm.sim.config import SimConfig

KNOWN = {**LADDER, JUDGE: EYES}
REFERENCES: dict[str, Callable[[SimulatedTabletop], Actor]] = {
    "still": lambda table: Still(),
    "random": lambda table: Random(),
    "expert": lambda table: Expert(table.spec),
}
"""What success is compared with; no policies."""


@dataclass
class Train:
    """Train policies of the ladder, each from lessons that the simulator's expert gives, and count their successes.

    Each becomes NAME.safetensors and a card NAME.json; one that is there already isn't trained again. References
    (still, random, expert), which see the truth or nothing, are counted into references.json.

    For instance:
      rslwm policy train --out runs/policies
      rslwm policy train sees-points-100,still --out runs/policies --trials 10
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names, as in sees-points-100,still; all policies of the ladder and the references if none is named."""
    out: Path = Path("runs/policies")
    """Where policies go; lessons and the trainings' states are kept beside them, in lessons and training."""
    trials: int = 50
    """Trials of each of the four families of tasks."""
    trial_seed: int = 0
    """Another number starts the trials elsewhere."""

    def run(self) -> None:
        torch.set_num_threads(policies.COMPUTE.threads)
        if unknown := [name for name in self.names if name not in (*KNOWN, *REFERENCES)]:
            raise UnknownName(f"no policy called {unknown[0]!r}. Known: {', '.join((*KNOWN, *REFERENCES))}.")
        for name in self.names or (*REFERENCES, *LADDER):
            if name in REFERENCES:
                self._count_reference(name)
            elif not (self.out / f"{name}.json").exists():
                self._train(name, KNOWN[name])
        console().print(self._table())

    def _train(self, name: str, config: PolicyConfig) -> None:
        with counting(f"{name}: steps") as progress:
            policy, trained = policies.learn(config, self.out / "training" / name, self.out / "lessons", progress)
        counts = true_success(policy, self._tabletop, SimConfig().families, **self._trials)
        card = {
            "command": f"rslwm policy train {name}",
            "parameters": sum(x.numel() for x in policy.network.parameters()),
            "training_seconds": trained.seconds,
            "trials": {**self._trials, "actions": ACTIONS, "frame_skip": FRAME_SKIP},
            "success": _cards(counts),
        }
        policies.save(policy, name, config, card, self.out)

    def _count_reference(self, name: str) -> None:
        path = self.out / "references.json"
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        table = self._tabletop
        counts = true_success(REFERENCES[name](table), table, SimConfig().families, **self._trials)
        self.out.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({**known, name: _cards(counts)}, indent=1) + "\n")

    @property
    def _tabletop(self) -> SimulatedTabletop:
        return SimulatedTabletop(SimConfig(), FRAME_SKIP)

    @property
    def _trials(self) -> dict[str, Any]:
        return {"trials": self.trials, "seed": self.trial_seed}

    def _table(self) -> Table:
        families = (*SimConfig().families, "all")
        table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
        for heading in ("policy", *families, "95 %"):
            table.add_column(heading)
        for name in policies.names(self.out):
            success = policies.card(name, self.out)["success"]
            rates = (f"{success[family]['rate']:.2f}" for family in families)
            table.add_row(name, *rates, f"{success['all']['low']:.2f} to {success['all']['high']:.2f}")
        return table


def _cards(counts: dict[str, Successes]) -> dict[str, Any]:
    return {family: count.card for family, count in counts.items()}
