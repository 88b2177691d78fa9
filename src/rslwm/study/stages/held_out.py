"""What is measured on held-out episodes, of a space and its world model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from rslwm.data.sources.opening import open_source
from rslwm.evals.evaluation import Evaluation, Label
from rslwm.model.world_model import WorldModel
from rslwm.run.stage import Demand, Workspace
from rslwm.study.stages.base import OnEpisodes, on_episodes
from rslwm.study.stages.latents import LatentsStage
from rslwm.study.stages.world_model import WorldModelStage, denoising

if TYPE_CHECKING:
    from rslwm.study.graph import Subject
    from rslwm.study.stages.checkpoint import CheckpointStage

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOut(OnEpisodes[T]):
    """A stage that looks at held-out episodes through a world model."""

    latents: LatentsStage
    world_model: WorldModelStage | CheckpointStage
    row: Label
    """The columns by which its rows are told from another space's."""
    seed: int
    """Of the choice of windows and of all noise, the same for every space."""
    left_out: tuple[str, ...]
    """Ids of episodes that a model from elsewhere was trained on."""

    def evaluation(self, work: Workspace) -> Evaluation:
        """The space under test."""
        model: WorldModel = work.open(self.world_model)
        corpus = self.corpus(work).for_model(model.action_spec)
        left_out = frozenset(i for i, name in enumerate(corpus.dataset.ids) if name in self.left_out)
        corpus = replace(corpus, left_out=left_out)
        source = open_source(self.data.settings)
        latents = work.open(self.latents)
        return Evaluation(corpus, latents, model, self.seed, self.compute, self.row, source=source)

    def predicting(self, passes: float, decoded: float = 0.0, memory: float = 0.0) -> Demand:
        """Of so many frames through the transformer, so many decoded, and bytes beside its weights."""
        model, spec = self.world_model, self.latents.spec
        assert isinstance(model, WorldModelStage)
        parameters = denoising(model.settings.dit, spec.grid, spec.channels, False).parameters
        flops = passes * model.predict_flops + decoded * model.decoder.decode_flops
        return Demand(flops=flops, memory=2 * parameters + memory)


def held_out(subject: Subject) -> dict[str, Any]:
    """The fields of :class:`HeldOut`."""
    return {
        **on_episodes(subject),
        "latents": subject.pull(LatentsStage),
        "world_model": subject.pull(WorldModelStage),
        "row": subject.row,
        "seed": subject.study.config.evaluation.seed,
        "left_out": subject.left_out,
    }
