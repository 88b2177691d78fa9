"""World models as environments of Gymnasium that begin where data do which they haven't seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rslwm.caches import cache_folder
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus, unseen
from rslwm.envs.imagined_world import ImaginedWorld, Judge, Start
from rslwm.envs.places import Place, Places
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.shipping import located
from rslwm.study.checkpoint import clip_settings, open_corpus, run_folder
from rslwm.types import DataError

_DEFAULTS = RolloutsConfig()


class FirstFrames(Sequence[Start]):
    """The first frames of episodes that a model wasn't trained on, read when they are asked for.

    Raises:
        DataError: it has seen all of them, or none has so many frames.
    """

    def __init__(self, corpus: Corpus, model: WorldModel, context: int) -> None:
        self._clips = corpus.clips(corpus.frames, context)
        places = self._clips.windows(unseen(corpus, model.seen, model.fingerprint, "the model"))
        self.windows = places[places[:, 1] == 0]
        """(N, 2) of (episode, 0)"""
        if not len(self.windows):
            raise DataError(f"{corpus.dataset.root}: no unseen episode holds {context} frames; lower the context")
        said = corpus.dataset.instructions
        self.instructions = [said[episode] for episode in self.windows[:, 0]]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        clip = self._clips.batch(self.windows[[number]])
        return Start(clip.x[0].numpy(), clip.actions[0].numpy(), self.instructions[number])


def first_frames(
    model: WorldModel, checkpoint: Path, data: str = "", camera: str = "", context: int = _DEFAULTS.context
) -> FirstFrames:
    """Starts for a world model: of the episodes it was trained among, or of other ``data`` as ``rslwm rollout`` takes
    them, recorded or decoded into the cache unless that is done. Raises what :func:`open_corpus` raises."""
    config = clip_settings(model, checkpoint, data, camera)
    kept = cache_folder() / "starts"
    folder = kept if data else run_folder(checkpoint, kept)
    return FirstFrames(open_corpus(config, model, folder), model, context)


def world_model(
    num_envs: int = 1,
    checkpoint: WorldModel | Path | str = "",
    data: str = "",
    camera: str = "",
    context: int = _DEFAULTS.context,
    starts: Sequence[Start] | None = None,
    judge: Judge | None = None,
    sampling: SamplingConfig = _DEFAULTS.sampling,
    compute: ComputeConfig | None = None,
    **options: Any,
) -> Places:
    """What a world model imagines, ``rslwm/WorldModel-v0``.

    Args:
        checkpoint: its folder, the name of a shipped one, or a world model itself.
        data, camera, context: where the episodes begin, see :func:`first_frames`.
        starts: where they begin instead.
        judge: says of what was shown whether the task is done; without one the reward is 0.
        options: arguments of :class:`Places`.

    Raises:
        DataError: the checkpoint can't be loaded, or was trained on all of the data, or shows no frames.
        UnknownName: nothing of that name is shipped.
    """
    folder = None if isinstance(checkpoint, WorldModel) else located(checkpoint)
    model = checkpoint if isinstance(checkpoint, WorldModel) else WorldModel.load(checkpoint)
    if starts is None:
        if folder is None:
            raise DataError("starts: a world model that isn't given by its folder needs them")
        starts = first_frames(model, folder, data, camera, context)
    return Places(num_envs, ImaginedWorld(model, starts, sampling, compute or ComputeConfig(), judge), **options)


def world_model_place(**options: Any) -> Place:
    """A single one of :func:`world_model`."""
    return Place(world_model(1, **options))
