"""Rendering without a screen."""

from __future__ import annotations

import numpy as np

from rslwm.serialisation import ConfigError
from rslwm.sim import EGL_REMEDY
from rslwm.sim.engine import mujoco
from rslwm.sim.scene import CAMERAS

SUPERSAMPLING = 2
"""Frames are drawn this many times larger and averaged: a software renderer's cheapest way to smooth edges."""


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
