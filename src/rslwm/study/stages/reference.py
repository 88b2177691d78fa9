"""The stages of sanity rows, where they aren't those of every other row: they train nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rslwm.compute import device
from rslwm.data.sources.opening import open_source
from rslwm.evals.base import NotAvailable
from rslwm.evals.oracle import CHANNELS, Oracle, States
from rslwm.evals.truth import Truth
from rslwm.latents.space import LatentSpace
from rslwm.model.reference import CopyLast, Mosaic
from rslwm.model.world_model import WorldModel
from rslwm.run.stage import Stage, Workspace
from rslwm.study.stages.base import OnEpisodes, on_episodes
from rslwm.study.stages.latents import SPACE, LatentsStage, SpaceStage
from rslwm.study.stages.world_model import WorldModelStage
from rslwm.types import REFERENCE, DataError, LatentSpec

if TYPE_CHECKING:
    from rslwm.study.subjects import Variant


@dataclass(frozen=True, eq=False, kw_only=True)
class CopyLastStage(OnEpisodes[WorldModel]):
    """The world model in which nothing happens, over any space that shows its own pixels."""

    kind = "copy-last"

    space: SpaceStage
    max_frames: int

    @classmethod
    def of(cls, variant: Variant) -> CopyLastStage:
        frames = variant.world_model.dit.max_frames
        return cls(**on_episodes(variant), label=variant.label, space=variant.pull(SpaceStage), max_frames=frames)

    def run(self, work: Workspace) -> None:
        pass

    def open(self, work: Workspace) -> WorldModel:
        space = LatentSpace.load(work.folder(self.space) / SPACE)  # a copy to complete
        space.set_pixels(Mosaic())
        return CopyLast(space, self.corpus(work).action_spec, self.max_frames).to(device(self.compute)).eval()


@dataclass(frozen=True, eq=False, kw_only=True)
class StatesStage(OnEpisodes[States]):
    """The true states of all frames as latents; they are read from the episodes whenever they are asked for."""

    kind = "states"
    streamed = False

    @classmethod
    def of(cls, variant: Variant) -> StatesStage:
        return cls(**on_episodes(variant, framewise=True), label=variant.label)

    @property
    def spec(self) -> LatentSpec:
        return LatentSpec("oracle", REFERENCE, (1, 1), CHANNELS)

    def run(self, work: Workspace) -> None:
        self.open(work)  # fails here what would fail every metric

    def open(self, work: Workspace) -> States:
        """Raises :class:`DataError` if nothing tells true states."""
        try:
            return States(Truth(self.corpus(work), open_source(self.data.settings), seed=0))
        except NotAvailable as why:
            raise DataError(f"there is no oracle: {why}") from None


@dataclass(frozen=True, eq=False, kw_only=True)
class OracleStage(OnEpisodes[WorldModel]):
    """The true environment as a world model."""

    kind = "oracle"

    states: StatesStage
    max_frames: int

    @classmethod
    def of(cls, variant: Variant) -> OracleStage:
        frames = variant.world_model.dit.max_frames
        states = StatesStage.of(variant)
        return cls(**on_episodes(variant), label=variant.label, states=states, max_frames=frames)

    def run(self, work: Workspace) -> None:
        self.open(work)

    def open(self, work: Workspace) -> WorldModel:
        """Raises :class:`DataError` if the environment takes other actions than clips hold."""
        truth = Truth(self.corpus(work), open_source(self.data.settings), seed=0)
        try:
            return Oracle(truth, work.open(self.states), self.max_frames).to(device(self.compute)).eval()
        except NotAvailable as why:
            raise DataError(f"there is no oracle: {why}") from None


ORACLE, COPY_LAST, PIXELS = "oracle", "copy-last", "raw-pixels"
SANITY = {
    ORACLE: "true states, and the simulator itself as world model; it needs data of a simulator",
    COPY_LAST: "raw pixels, and a world model in which nothing ever happens",
}
"""What the sanity rows are, for people."""
REFERENCES: dict[str, dict[type[Stage], type[Stage]]] = {
    ORACLE: {WorldModelStage: OracleStage, LatentsStage: StatesStage},
    COPY_LAST: {WorldModelStage: CopyLastStage},
}
"""By the name of the sanity row, what stands in for which stage."""
