"""How the scene looks (light, table and cameras, all changeable while it runs), and its frames, without a screen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rslwm.serialisation import ConfigError
from rslwm.sim.engine import EGL_REMEDY, mujoco
from rslwm.sim.scene import CAMERAS, COLOURS, TABLE_RGB

SUPERSAMPLING = 2
"""Frames are drawn this many times larger and averaged: a software renderer's cheapest way to smooth edges."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Appearance:
    """A look. ``light_shift`` is added to the lamp's direction, ``camera_shift`` (metres) to the place of the fixed
    cameras. Nothing here touches the physics."""

    light: float = 1.0
    light_shift: Triple = (0.0, 0.0, 0.0)
    table: Triple = TABLE_RGB
    camera_shift: Triple = (0.0, 0.0, 0.0)

    @classmethod
    def random(cls, strength: float, rng: np.random.Generator) -> Appearance:
        """A look drawn around the default one; ``strength`` 0 is the default, 1 is far from it."""
        light = 1 + 0.35 * strength * rng.uniform(-1, 1)
        light_shift = 0.5 * strength * rng.uniform(-1, 1, 3) * [1, 1, 0]
        table = np.clip(TABLE_RGB + 0.25 * strength * rng.uniform(-1, 1, 3), 0.05, 1)
        camera_shift = 0.05 * strength * rng.uniform(-1, 1, 3)
        return cls(float(light), *(tuple(shift.tolist()) for shift in (light_shift, table, camera_shift)))


class Look:
    """Applies an :class:`Appearance` to a model, always starting from the model as it was built."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self.fixed = [model.camera(name).id for name in CAMERAS if model.cam_bodyid[model.camera(name).id] == 0]
        self.camera_places = model.cam_pos.copy()
        self.light_direction, self.light_diffuse = model.light_dir.copy(), model.light_diffuse.copy()

    def apply(self, appearance: Appearance, zone: str | None) -> None:
        """Set light, cameras and colours; ``zone`` is the name of the zone's colour, if there is one."""
        model = self.model
        model.cam_pos[self.fixed] = self.camera_places[self.fixed] + appearance.camera_shift
        model.light_dir[:] = self.light_direction + appearance.light_shift
        model.light_diffuse[:] = self.light_diffuse * appearance.light
        model.mat_rgba[model.material("table").id, :3] = appearance.table
        if zone is not None:
            model.geom_rgba[model.geom("zone").id, :3] = COLOURS[zone]


class OffscreenRenderer:
    """Frames of a model as its cameras see them. The graphics context opens with the first frame."""

    def __init__(self, model: mujoco.MjModel, image_size: int, shadows: bool) -> None:
        self.model, self.image_size, self.shadows = model, image_size, shadows
        self._renderer: mujoco.Renderer | None = None

    def frame(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """(H, W, 3) uint8.

        Raises:
            ConfigError: there is no such camera.
            ImportError: the machine can't render; the message says what to install.
        """
        if camera not in CAMERAS:
            raise ConfigError(f"sim.cameras: there is no camera {camera!r}; known: {', '.join(CAMERAS)}")
        self._renderer = self._renderer or self._open()
        self._renderer.update_scene(data, camera=camera)
        pixels, n = self._renderer.render().astype(np.uint16), SUPERSAMPLING
        total = sum(pixels[i // n :: n, i % n :: n] for i in range(n * n))
        return ((total + n * n // 2) // (n * n)).astype(np.uint8)

    def _open(self) -> mujoco.Renderer:
        side = SUPERSAMPLING * self.image_size
        try:
            renderer = mujoco.Renderer(self.model, side, side, max_geom=200)
        except (ImportError, RuntimeError, mujoco.FatalError) as error:
            raise ImportError(EGL_REMEDY) from error
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = self.shadows
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        return renderer

    def close(self) -> None:
        """Free the graphics context; the next frame opens a new one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
