"""How the scene looks (light, table and cameras, all changeable while it runs), and its frames, without a screen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rslwm.sim.engine import EGL_REMEDY, mujoco
from rslwm.sim.scene import COLOURS, TABLE_RGB

SUPERSAMPLING = 2
"""Frames are drawn this many times larger and averaged: a software renderer's cheapest way to smooth edges."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Appearance:
    """A look. ``light_shift`` is added to the lamp's direction, ``camera_shift`` (metres) to the place of the fixed
    cameras; ``paint`` has other colours (name, rgb) of objects. Nothing here touches the physics."""

    light: float = 1.0
    light_shift: Triple = (0.0, 0.0, 0.0)
    table: Triple = TABLE_RGB
    camera_shift: Triple = (0.0, 0.0, 0.0)
    paint: tuple[tuple[str, Triple], ...] = ()

    @classmethod
    def random(cls, strength: float, rng: np.random.Generator) -> Appearance:
        """A look drawn around the default one; ``strength`` 0 is the default, 1 is far from it."""
        light = 1 + 0.35 * strength * rng.uniform(-1, 1)
        light_shift = 0.5 * strength * rng.uniform(-1, 1, 3) * [1, 1, 0]
        table = np.clip(TABLE_RGB + 0.25 * strength * rng.uniform(-1, 1, 3), 0.05, 1)
        camera_shift = 0.05 * strength * rng.uniform(-1, 1, 3)
        return cls(float(light), *(tuple(shift.tolist()) for shift in (light_shift, table, camera_shift)))

    def rgb(self, colour: str) -> Triple:
        """How objects look that go by the name of this colour."""
        return dict(self.paint).get(colour, COLOURS[colour])

    def apply(self, model: mujoco.MjModel, built: mujoco.MjModel) -> None:
        """Make a model look so; ``built`` is the same model as it was built."""
        fixed = built.cam_bodyid == 0
        model.cam_pos[fixed] = built.cam_pos[fixed] + self.camera_shift
        model.light_dir[:] = built.light_dir + self.light_shift
        model.light_diffuse[:] = built.light_diffuse * self.light
        model.mat_rgba[model.material("table").id, :3] = self.table


def open_renderer(model: mujoco.MjModel, image_size: int, shadows: bool) -> mujoco.Renderer:
    """A graphics context. Raises ImportError: the machine can't render; the message says what to install."""
    side = SUPERSAMPLING * image_size
    try:
        renderer = mujoco.Renderer(model, side, side, max_geom=200)
    except (ImportError, RuntimeError, mujoco.FatalError) as error:
        raise ImportError(EGL_REMEDY) from error
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
    return renderer


def draw(renderer: mujoco.Renderer, data: mujoco.MjData, camera: str) -> np.ndarray:
    """What a camera sees: (H, W, 3) uint8."""
    renderer.update_scene(data, camera=camera)
    pixels, n = renderer.render().astype(np.uint16), SUPERSAMPLING
    total = sum(pixels[i // n :: n, i % n :: n] for i in range(n * n))
    return ((total + n * n // 2) // (n * n)).astype(np.uint8)
