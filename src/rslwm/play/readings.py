"""What is read of a frame while one drives: how far it is from the truth, and whether it did what was asked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.envs.trusted import disagreement
from rslwm.envs.worlds import Moment
from rslwm.evals.policies import look
from rslwm.play.playground import Playground, encoded
from rslwm.sim.sight import METRES, facts, where

_CM = 100 * METRES


@dataclass(frozen=True)
class Reading:
    """Of one pane's frame; None is what nobody can say of it."""

    latent: float | None = None
    """Root mean square difference from the true frame's latents, in standard deviations of the space."""
    hand_cm: float | None = None
    """Centimetres from where the hand truly is to where a network sees it in the frame; of the truth, that network's
    own error."""
    thing_cm: float | None = None
    """The same of the object to move, or of the drawer's handle."""
    asked: float | None = None
    """How far the action that inverse dynamics reads off the last two frames is from the one requested: root mean
    square over its dimensions, bounds at -1 and 1."""
    touched: bool | None = None
    """Whether the hand touches the object to move: true, or as seen in an imagined frame."""
    held: bool | None = None
    """Whether it holds it."""
    done: bool | None = None
    """Whether the task is done; only the truth knows."""


@dataclass(frozen=True)
class Shown:
    """One pane at one moment."""

    frame: np.ndarray
    """(H, W, 3) uint8"""
    latents: Tensor | None
    """(h, w, C) of an imagined frame"""
    true_latents: Tensor | None
    """(h, w, C) of the true frame in the same space"""
    seconds: float
    """What it took to make."""
    reading: Reading
    truth: dict[str, np.ndarray]
    """What is true by name (n,); empty of imagined frames."""


Moments = tuple[Moment, ...]


def read(
    ground: Playground,
    moments: Moments,
    words: str,
    seconds: list[float],
    latents: list[Tensor | None],
    before: tuple[Shown, ...] = (),
    action: np.ndarray | None = None,
) -> tuple[Shown, ...]:
    """What all panes show now.

    Args:
        words: the task's own instruction, by which positions are read.
        seconds: what each pane took.
        latents: of each imagined frame (h, w, C).
        before: what the panes showed before the ``action`` (A,), normalised; without it nothing was done yet.
    """
    frames = [moment.frames[-1] for moment in moments]
    readings = _positions(ground, moments, frames, words)
    shown = []
    for number, pane in enumerate(ground.panes):
        reading, true = readings[number], None
        own = latents[number]
        if own is not None and ground.truth:
            true = encoded(pane, frames[0][None])[0].cpu()
            reading = replace(reading, latent=float((own - true).square().mean().sqrt()))
        if own is not None and pane.probe and before and action is not None:
            previous = before[number].latents
            assert previous is not None
            back = pane.probe.apply(torch.stack([previous, own])[None], ground.compute)
            reading = replace(reading, asked=float(disagreement(back[0], torch.from_numpy(action))))
        shown.append(Shown(frames[number], own, true, seconds[number], reading, moments[number].truth))
    return tuple(shown)


def _positions(ground: Playground, moments: Moments, frames: list[np.ndarray], words: str) -> list[Reading]:
    """Where things are seen, against where they are, with all frames looked at together."""
    if ground.truth is None:
        return [Reading()] * len(frames)
    snapshot, success = moments[0].state, moments[0].success
    true = facts(snapshot.task, snapshot.state)
    happened = Reading(touched=bool(true[where("touched")]), held=bool(true[where("held")]), done=success)
    if not ground.seen_by_eyes:
        return [happened, *[Reading()] * (len(frames) - 1)]
    side = frames[0].shape[0]  # the first camera's view
    seen = look(np.stack([frame[None, :, :side] for frame in frames]), (words,) * len(frames))[:, 0]
    away = {
        name: _CM * np.linalg.norm(seen[:, where(name)] - true[where(name)], axis=1) for name in ("gripper", "thing")
    }
    found = []
    for number, numbers in enumerate(seen):
        imagined = Reading(touched=bool(numbers[where("touched")] > 0.5), held=bool(numbers[where("held")] > 0.5))
        reading = replace(imagined if number else happened, hand_cm=float(away["gripper"][number]))
        found.append(replace(reading, thing_cm=float(away["thing"][number])))
    return found
