"""What all visitors share: the world models, the simulator beside them, and where drives can begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from rslwm.actors import policies
from rslwm.caches import cache_folder
from rslwm.compute import ComputeConfig
from rslwm.data.config import DataConfig
from rslwm.data.corpus import unseen
from rslwm.envs.imagined_world import ImaginedWorld, Start
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.envs.worlds import TabletopWorld, World
from rslwm.evals.inverse_dynamics import InverseProbe
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.hub import shown
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.play.beginnings import Beginnings, Recordings, Simulated
from rslwm.run.runner import Runner
from rslwm.serialisation import ConfigError, load
from rslwm.shipping import located
from rslwm.shipping import names as shipped
from rslwm.study.checkpoint import clip_settings, open_corpus, run_folder
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.stages.metric import ProbeStage
from rslwm.types import ActionSpec, DataError

TRUTH = "truth"
SIMULATOR = "sim:tabletop"
_DEFAULTS = RolloutsConfig()


@dataclass(frozen=True)
class PlayConfig:
    """How worlds are driven."""

    context: int = _DEFAULTS.context
    """Real frames that a drive begins with."""
    sampling: SamplingConfig = _DEFAULTS.sampling
    policies: tuple[str, ...] = ()
    """More than the ladder's: mappings of servers (path/to/mapping.yaml), or path/to/file.py:Name of actors."""


@dataclass(frozen=True)
class Pane:
    """One world that is shown, under the same keys as all others."""

    name: str
    family: str
    world: World
    model: WorldModel | None = None
    """None of the truth."""
    probe: TrainedProbe | None = None
    """Inverse dynamics of one step in its latent space."""


@dataclass(frozen=True)
class Playground:
    """Panes that take the same actions, the truth first where there is one. Raises DataError: they don't, or differ in
    the frames that they show."""

    panes: tuple[Pane, ...]
    beginnings: Beginnings
    config: PlayConfig = field(default_factory=PlayConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    seen_by_eyes: bool = False
    """Whether the frames are the front camera's of the simulator, which a network reads positions off."""

    def __post_init__(self) -> None:
        names = [pane.name for pane in self.panes]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"worlds: {names or 'none'}; at least one is needed, and each only once")
        first, *others = self.panes
        for pane in others:
            first.world.spec.require(pane.world.spec, first.name, pane.name)
            if pane.world.spec != first.world.spec:
                bounds = [f"{spec.low} to {spec.high}" for spec in (first.world.spec, pane.world.spec)]
                what = f"the actions of {first.name} and {pane.name} have other bounds: {' against '.join(bounds)}"
                raise DataError(
                    f"{what}. They were trained on other data or frame skips; play them one after the other"
                )
            if pane.world.shape != first.world.shape:
                shapes = f"{pane.world.shape}, {first.name} {first.world.shape}"
                raise DataError(f"{pane.name} shows frames of {shapes}; play them one after the other")

    @property
    def spec(self) -> ActionSpec:
        """What actions mean."""
        return self.panes[0].world.spec

    @property
    def truth(self) -> Pane | None:
        """The simulator, where it is shown."""
        return self.panes[0] if self.panes[0].model is None else None

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of what can be let act: visitors choose from these, and from nothing else."""
        ladder = policies.names() if self.truth else []
        return (*self.config.policies, *reversed(ladder))

    def close(self) -> None:
        """Free the graphics context, in the thread that drew; the next frame opens another, in its own thread."""
        self.beginnings.close()
        for pane in self.panes:
            pane.world.close()

    def pane(self, name: str) -> Pane:
        """Raises ConfigError: there is none of that name."""
        for pane in self.panes:
            if pane.name == name:
                return pane
        raise ConfigError(f"pane {name!r}: there are {', '.join(pane.name for pane in self.panes)}")


def resolve(names: Sequence[str], run: Path | None) -> list[Path]:
    """The checkpoint folders that names stand for, ``NAME@COLLECTION`` or paths; without names those of a run, and
    without a run those that come with the package.

    Raises:
        ConfigError: the run holds none.
        UnknownName: nothing of that name is shipped.
    """
    if names or not run:
        return [located(name) for name in names or shipped()]
    if found := sorted(path.parent for path in (run / "checkpoints").glob("*/config.yaml")):
        return found
    raise ConfigError(f"--run {run}: {run / 'checkpoints'} holds no world model; let `rslwm compare` or `train` end")


def open_playground(
    checkpoints: Sequence[Path], sim: bool, config: PlayConfig, compute: ComputeConfig, data: str = ""
) -> Playground:
    """Load world models and set the simulator beside those that were trained in it, or, with ``sim``, beside any.

    Args:
        data: where models begin that weren't trained in the simulator; what they were trained among by default.

    Raises:
        DataError: a checkpoint can't be loaded, or they don't fit each other.
        ConfigError: there is nothing to play.
    """
    models = [(path, WorldModel.load(path)) for path in checkpoints]
    settings = [clip_settings(model, path, data) for path, model in models]
    if not models and not sim:
        raise ConfigError("nothing to play: name a world model, or give --sim")
    first = settings[0] if settings else DataConfig()
    simulated = sim or first.uri == SIMULATOR
    panes, names = [], _names([path for path, _ in models])
    if simulated:
        table = _table(first)
        panes.append(Pane(TRUTH, "reference", TabletopWorld(table, table.config.families)))
        beginnings: Beginnings = Simulated(table, config.context)
    else:
        path, model = models[0]
        corpus = open_corpus(first, model, cache_folder() / "starts" if data else run_folder(path, cache_folder()))
        beginnings = Recordings(corpus, unseen(corpus, model.seen, model.fingerprint, str(path)), config.context)
    for name, (path, model) in zip(names, models, strict=True):
        longest = model.config.dit.max_frames - 1
        if not 1 <= config.context <= longest:
            raise ConfigError(f"context is {config.context}; {path} looks back at 1 to {longest} frames")
        pane = Pane(name, model.space.spec.family, imagined(model, config, compute), model, probe_of(path, model))
        panes.append(pane)
    eyes = simulated and (first.camera or first.sim.cameras[0]).split(",")[0] == "front"
    return Playground(tuple(panes), beginnings, config, compute, eyes)


def _table(data: DataConfig) -> SimulatedTabletop:
    """The simulator that shows what the models were trained on."""
    sim = data if data.uri == SIMULATOR else replace(data, uri=SIMULATOR, camera="")
    return SimulatedTabletop.of_data(sim)


def _names(paths: Sequence[Path]) -> list[str]:
    """Of folders: the last part, or as much as tells them apart."""
    places, parts = [shown(path).parts for path in paths], 1
    while parts < 6 and len({place[-parts:] for place in places}) < len(paths):
        parts += 1
    return ["/".join(place[-parts:]) for place in places]


def imagined(model: WorldModel, config: PlayConfig, compute: ComputeConfig) -> ImaginedWorld:
    """A world model that begins where it is told to."""
    side = model.space.config.image_size
    nowhere = Start(np.zeros((1, side, side * model.space.config.views, 3), np.uint8))
    return ImaginedWorld(model, [nowhere], config.sampling, compute)


def probe_of(checkpoint: Path, model: WorldModel) -> TrainedProbe | None:
    """The inverse dynamics that the run trained beside a checkpoint that is still in its folder; None where there is
    none, or one of another version."""
    root = run_folder(checkpoint, Path())
    if not (root / "config.yaml").is_file() or root == Path():
        return None
    study, runner = Study(load(StudyConfig, root / "config.yaml")), Runner(root)
    for variant in study.compared:
        if variant.folder == checkpoint.absolute().name:
            stage = ProbeStage.of_probe(InverseProbe(1), variant)
            probe = runner.workspace.open(stage) if runner.finished(stage) else None
            return probe if probe and not probe.absent else None
    return None


@torch.inference_mode()
def encoded(pane: Pane, frames: np.ndarray) -> torch.Tensor:
    """Frames (T, H, W, 3) uint8 in a pane's latent space: (T, h, w, C)."""
    assert pane.model is not None
    shown = torch.from_numpy(frames).to(pane.model.device).float() / 255
    return pane.model.encode(shown[None])[0].float()
