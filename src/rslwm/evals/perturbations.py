"""What training never showed: the same held-out episodes in another light, from another place, among other things.

In the embedded simulator an episode is recorded anew: its actions are replayed in a scene that was changed before the
first of them. Of a recording only the pictures can be changed, which is a part of it: brightness, contrast and colour
for the light, a shifted and enlarged picture for the camera.

Instructions in unseen words aren't among these, because no world model, probe or metric reads an instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from rslwm.data.config import DataConfig
from rslwm.data.sources.opening import open_source
from rslwm.data.sources.sim import Simulator
from rslwm.evals.base import split
from rslwm.registry import Registry
from rslwm.serialisation import ConfigError, from_dict
from rslwm.sim.config import SimConfig
from rslwm.sim.scene import COLOURS
from rslwm.sim.tasks import FAMILIES, IN_SIGHT, draw_distractors
from rslwm.types import Episode

if TYPE_CHECKING:
    from rslwm.sim.tabletop import Tabletop  # MuJoCo is a heavy import

PERTURBATIONS: Registry[type[Perturbation]] = Registry("perturbation", "rslwm.perturbations")


@dataclass(frozen=True)
class Perturbation:
    """One way in which held-out episodes are unlike those of training. Its fields are settings, each with a default.

    A new one is a subclass, registered in :data:`PERTURBATIONS` or named as path/to/file.py:Class. For the embedded
    simulator it has :meth:`change` or :meth:`episode`, for everything else :meth:`picture`.
    """

    version: ClassVar[int] = 1
    """Of the episodes; raise it when they change."""

    def change(self, table: Tabletop, draw: np.random.Generator) -> None:
        """Change what is on the table or how it looks, before the episode's actions are replayed."""
        raise NotImplementedError

    def episode(self, config: SimConfig, number: int) -> Episode:
        """Episode ``number`` of a recording, recorded anew, as long as it was."""
        from rslwm.sim.record import record_episode

        return record_episode(config, number, self.change)

    def picture(self, frames: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """One camera's frames (T, H, W, 3) uint8 of an episode, changed."""
        raise NotImplementedError

    def lacks(self, data: DataConfig) -> str:
        """Why these data can't be perturbed so; empty if they can."""
        if self.of_scene(data) or type(self).picture is not Perturbation.picture:
            return ""
        return "the data are a recording, whose pictures alone can't show it"

    def of_scene(self, data: DataConfig) -> bool:
        """Whether episodes are recorded anew, rather than their pictures changed."""
        own = any(getattr(type(self), name) is not getattr(Perturbation, name) for name in ("change", "episode"))
        return own and isinstance(open_source(data), Simulator)


@PERTURBATIONS.register("light")
@dataclass(frozen=True)
class Light(Perturbation):
    """A lamp elsewhere, brighter or darker; of a recording brightness, contrast and the colour of the light.

    Farther off than episodes recorded with ``data.sim.appearance=1``.
    """

    strength: float = 1.0
    """How far it is from the usual light; 0 changes nothing."""

    def change(self, table: Tabletop, draw: np.random.Generator) -> None:
        look, s = table.appearance, self.strength
        angle = draw.uniform(0, 2 * np.pi)
        x, y = s * np.cos(angle), s * np.sin(angle)
        shift = (look.light_shift[0] + x, look.light_shift[1] + y, look.light_shift[2])
        table.repaint(replace(look, light=look.light * (1 + 0.6 * s * draw.choice([-1, 1])), light_shift=shift))

    def picture(self, frames: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        s = self.strength
        bright, contrast = 1 + s * draw.choice([-1, 1], 2) * [0.35, 0.25]
        cast = 1 + 0.12 * s * draw.uniform(-1, 1, 3)
        mean = frames.mean((1, 2), keepdims=True)
        return _rounded(bright * cast * (contrast * frames + (1 - contrast) * mean))


@PERTURBATIONS.register("camera")
@dataclass(frozen=True)
class Camera(Perturbation):
    """The fixed cameras stand elsewhere; of a recording a piece of the picture, enlarged, off its middle."""

    shift: float = 0.03
    """By how many metres, in a direction drawn for each episode; of a recording, by how much of the picture's width."""
    zoom: float = 0.12
    """By which share a recording's picture is enlarged; the piece that is shown has to lie inside."""

    def change(self, table: Tabletop, draw: np.random.Generator) -> None:
        x, y, z = (table.appearance.camera_shift + self.shift * _direction(draw, 3)).tolist()
        table.repaint(replace(table.appearance, camera_shift=(x, y, z)))

    def picture(self, frames: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        height, width = frames.shape[1:3]
        margin = (1 - 1 / (1 + self.zoom)) / 2
        aside, down = np.clip(self.shift * _direction(draw, 2), -margin, margin)
        left, top = (margin + aside) * width, (margin + down) * height
        box = (left, top, left + width - 2 * margin * width, top + height - 2 * margin * height)
        if box == (0, 0, width, height):
            return frames
        method = Image.Resampling.BICUBIC
        return np.stack([np.asarray(Image.fromarray(f).resize((width, height), method, box)) for f in frames])


@PERTURBATIONS.register("colours")
@dataclass(frozen=True)
class Colours(Perturbation):
    """Objects and zones in shades that no training episode shows: paler or darker, so that red is still red; of a
    recording all hues, turned."""

    strength: float = 1.0
    """How far the shades are from the usual ones; 0 changes nothing."""

    def change(self, table: Tabletop, draw: np.random.Generator) -> None:
        mixed = {name: np.full(3, draw.choice([0.0, 1.0])) - rgb for name, rgb in COLOURS.items()}
        shades = {name: np.clip(rgb + 0.45 * self.strength * mixed[name], 0, 1) for name, rgb in COLOURS.items()}
        paint = tuple((name, tuple(shade.tolist())) for name, shade in shades.items())
        table.repaint(replace(table.appearance, paint=paint))

    def picture(self, frames: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        return _rounded(frames @ _hue_turn(self.strength * draw.choice([-1, 1]) * np.pi / 6).T)


@PERTURBATIONS.register("distractors")
@dataclass(frozen=True)
class Distractors(Perturbation):
    """More objects on the table than any training episode has; those that were there stay as they are."""

    more: int = 2
    """How many; fewer where the table has no room for them or no colours are left."""

    def change(self, table: Tabletop, draw: np.random.Generator) -> None:
        for _ in range(self.more):
            crowded = replace(table.layout, objects=table.objects)
            try:
                table.add(draw_distractors(table.task, crowded, 1, draw, IN_SIGHT))
            except ConfigError:  # no room
                return


@PERTURBATIONS.register("family")
@dataclass(frozen=True)
class UnseenFamily(Perturbation):
    """Tasks of a family that no training episode shows, with the same robot and the same seeds. It is the one whose
    actions are others, so only the episodes' numbers are paired."""

    def lacks(self, data: DataConfig) -> str:
        if isinstance(open_source(data), Simulator) and not _unseen(data.sim.families):
            return f"the training episodes show every family; leave one out with --data.sim.families {','.join(_FEW)}"
        return super().lacks(data)

    def episode(self, config: SimConfig, number: int) -> Episode:
        from rslwm.sim.record import record_episode

        unseen = _unseen(config.families)
        families = (unseen[number % len(unseen)],) * len(config.families)  # levels of noise take turns as they did
        return record_episode(replace(config, families=families), number)


_FEW = tuple(FAMILIES)[:-1]


def _unseen(families: Sequence[str]) -> list[str]:
    return [family for family in FAMILIES if family not in families]


def _rounded(frames: np.ndarray) -> np.ndarray:
    return np.rint(frames).clip(0, 255).astype(np.uint8)


def _direction(draw: np.random.Generator, dimensions: int) -> np.ndarray:
    """A direction, all alike."""
    vector = draw.normal(size=dimensions)
    return vector / np.linalg.norm(vector)


def _hue_turn(angle: float) -> np.ndarray:
    """The rotation (3, 3) of colours about the greys, in radians."""
    x, y, z = np.full(3, 1 / np.sqrt(3))
    across = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * across + (1 - np.cos(angle)) * across @ across


def perturbation(reference: str, data: DataConfig) -> Perturbation:
    """The one that is meant by NAME or path/to/file.py:Class, with settings behind it: ``light[strength=0.5]``.

    Raises:
        UnknownName: nothing answers to the name.
        ConfigError: what answers is none, a setting is unknown, or these data can't be perturbed so.
    """
    name, options = split(reference, "robustness")
    kind = PERTURBATIONS.get(name)
    if not (isinstance(kind, type) and issubclass(kind, Perturbation)):
        raise ConfigError(f"robustness: {name} is {kind!r}, which is no subclass of {__name__}.Perturbation")
    found = from_dict(kind, options, f"robustness: {name}")
    if lack := found.lacks(data):
        raise ConfigError(f"robustness: {name}: {lack}")
    return found


def perturbations(references: Sequence[str], data: DataConfig) -> dict[str, Perturbation]:
    """By reference; ``all`` stands for every registered one that these data can be perturbed by. Raises what
    :func:`perturbation` does."""
    able = [name for name in PERTURBATIONS if not PERTURBATIONS.get(name)().lacks(data)] if "all" in references else []
    listed = [name for reference in references for name in (able if reference == "all" else [reference])]
    return {name: perturbation(name, data) for name in listed}
