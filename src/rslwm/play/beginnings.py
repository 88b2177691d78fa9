"""Where a drive begins: on a fresh table, or anywhere in a recorded episode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import torch

from rslwm.actors.blind import Recorded
from rslwm.data.actions import compose
from rslwm.data.corpus import Corpus
from rslwm.envs.base import play
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.latents.views import to_bytes
from rslwm.plan.base import stand_still
from rslwm.serialisation import ConfigError
from rslwm.sim.record import demonstration
from rslwm.sim.tabletop import SPEC, Snapshot
from rslwm.sim.tasks import FAMILIES
from rslwm.types import ActionSpec

SEEDS = 2**31
"""How many seeds there are to choose from."""
_DRIVES = 3  # the third number of the seeds of drives: neither those of recordings, nor of lessons, nor of trials


@dataclass(frozen=True)
class Beginning:
    """What somebody chose. With ``noise`` it decides every frame of a drive but for the actions."""

    family: str = "push"
    """Kind of task on a fresh table."""
    seed: int = 0
    """Of the table."""
    distractors: int = 2
    """Objects that the task doesn't need."""
    another: bool = False
    """Whether something else is asked for than the table was laid for."""
    instruction: str = ""
    """What is asked for in words, for policies; empty is the task's own. It changes no rule of success."""
    episode: int = -1
    """Of the recording; -1 is a fresh table."""
    frame: int = 0
    """Of the episode, counted in frames as the world model sees them."""
    noise: int = 0
    """Of everything that world models draw."""

    def __post_init__(self) -> None:
        most_of = {"seed": SEEDS, "noise": SEEDS, "episode": SEEDS, "frame": 10_000, "distractors": 16}
        for name, most in most_of.items():
            least = -1 if name == "episode" else 0
            if not least <= getattr(self, name) < most:
                raise ConfigError(f"{name} is {getattr(self, name)}; choose {least} to {most - 1}")
        if len(self.instruction) > 300:
            raise ConfigError(f"instruction has {len(self.instruction)} characters; write at most 300")


@dataclass(frozen=True)
class Begun:
    """What a beginning is: real frames (T, H, W, 3) uint8, the normalised actions (T-1, A) between them, and what
    follows where it was recorded."""

    frames: np.ndarray
    actions: np.ndarray
    instruction: str
    asked: str
    """The task's own instruction."""
    snapshot: Snapshot | None = None
    """The simulator at the last of the frames."""
    course: np.ndarray | None = None
    """What was done from there on in the recording, normalised (F, A)."""
    end: np.ndarray | None = None
    """What the recording shows at its end (H, W, 3) uint8."""


class Beginnings(ABC):
    """Offers beginnings of one kind of data."""

    families: tuple[str, ...] = ()
    """Of tasks on fresh tables; empty where there are recorded episodes only."""
    episodes: int | None = None
    """How many are recorded; None where any number names one."""

    @abstractmethod
    def begin(self, chosen: Beginning) -> Begun:
        """Raises ConfigError: there is no such beginning."""

    def close(self) -> None:  # noqa: B027
        """Free what it draws with."""


class Simulated(Beginnings):
    """Of the simulator: fresh tables that no recording has, and the recording that the configuration describes,
    simulated again. On a fresh table the robot stands still for the ``context`` frames before the first action."""

    def __init__(self, table: SimulatedTabletop, context: int) -> None:
        self.table, self.context, self.families = table, context, tuple(FAMILIES)

    def begin(self, chosen: Beginning) -> Begun:
        begun = self._fresh(chosen) if chosen.episode < 0 else self._recorded(chosen)
        if not chosen.instruction:
            return begun
        assert begun.snapshot is not None
        task = replace(begun.snapshot.task, instruction=chosen.instruction)
        return replace(begun, instruction=chosen.instruction, snapshot=replace(begun.snapshot, task=task))

    def close(self) -> None:
        self.table.close()

    def _fresh(self, chosen: Beginning) -> Begun:
        simulator, look = self.table.table, self.table.config.appearance
        simulator.reset((chosen.seed, 0, _DRIVES), chosen.family, chosen.distractors, look, chosen.another)
        return self._standing(simulator.save())

    def _standing(self, start: Snapshot) -> Begun:
        still = stand_still(self.table.spec, torch.zeros(1, 0, self.table.spec.dims), self.context - 1)
        seen = play(Recorded(still), self.table, (start,), self.context - 1) if self.context > 1 else None
        first = seen.start if seen else self.table.reset((start,))
        shown = [first.frames, *([seen.seen.frames] if seen else [])]
        frames = torch.cat([part for part in shown if part is not None], 1)
        (end,) = seen.seen.state if seen else first.state
        words = start.task.instruction
        return Begun(to_bytes(frames)[0].numpy(), still[0].float().numpy(), words, words, end)

    def _recorded(self, chosen: Beginning) -> Begun:
        skip = self.table.frame_skip
        moments = [(table.save(), action) for table, _, _, action in demonstration(self.table.config, chosen.episode)]
        kept = [moment for moment, _ in moments[::skip]]
        if chosen.frame >= len(kept):
            raise ConfigError(f"frame is {chosen.frame}, but episode {chosen.episode} has {len(kept)}; choose one less")
        done = np.stack([action for _, action in moments])[: (len(kept) - 1) * skip]
        composed = compose(done.reshape(len(kept) - 1, skip, -1), SPEC) if len(kept) > 1 else done[:0]
        actions = self.table.spec.normalise(composed).clip(-1, 1)
        first = chosen.frame - self.context + 1
        if first < 0:
            begun = self._standing(kept[chosen.frame])
        else:
            context = kept[first : chosen.frame + 1]
            words = context[-1].task.instruction
            frames = np.stack([self._look(moment) for moment in context])
            begun = Begun(frames, actions[first : chosen.frame], words, words, context[-1])
        return replace(begun, course=actions[chosen.frame :], end=self._look(kept[-1]))

    def _look(self, moment: Snapshot) -> np.ndarray:
        seen = self.table.reset((moment,)).frames
        assert seen is not None
        return to_bytes(seen)[0, -1].numpy()


class Recordings(Beginnings):
    """Of recorded episodes ``chosen`` (indices in the corpus), such as those that a world model wasn't trained on."""

    def __init__(self, corpus: Corpus, chosen: list[int], context: int) -> None:
        skip, lengths = corpus.config.frame_skip, corpus.dataset.lengths
        self.corpus, self.context = corpus, context
        self._frames = [(int(length) - 1) // skip + 1 for length in lengths]
        self._chosen = [episode for episode in chosen if self._frames[episode] >= context]
        if not self._chosen:
            raise ConfigError(f"{corpus.dataset.root}: no unseen episode holds {context} frames; lower --context")
        self.episodes = len(self._chosen)

    def begin(self, chosen: Beginning) -> Begun:
        number = max(chosen.episode, 0)
        if number >= len(self._chosen):
            raise ConfigError(f"episode is {number}; there are 0 to {len(self._chosen) - 1}")
        episode = self._chosen[number]
        frames = self._frames[episode]
        if chosen.frame >= frames:
            raise ConfigError(f"frame is {chosen.frame}, but episode {number} has {frames}; choose one less")
        at = max(chosen.frame, self.context - 1)
        clip = self.corpus.clips(self.corpus.frames, frames).batch(np.array([[episode, 0]]))
        shown, actions = clip.x[0].numpy(), clip.actions[0].numpy()
        first, asked = at - self.context + 1, self.corpus.dataset.instructions[episode]
        return Begun(
            shown[first : at + 1], actions[first:at], chosen.instruction or asked, asked, None, actions[at:], shown[-1]
        )


def still(spec: ActionSpec, last: np.ndarray | None) -> np.ndarray:
    """The normalised action (A,) that keeps the robot where it is after ``last`` (A,); 0 where nobody knows."""
    return np.nan_to_num(spec.still(last)).astype(np.float32)
