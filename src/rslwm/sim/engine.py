"""MuJoCo, or what to install. Apart from the settings, which are read where nothing is simulated or drawn."""

from rslwm.sim import EGL_REMEDY

try:
    import mujoco as mujoco
except (AttributeError, OSError) as error:  # what PyOpenGL raises where libEGL can't be loaded
    raise ImportError(EGL_REMEDY) from error
