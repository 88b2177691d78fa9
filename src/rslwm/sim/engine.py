"""MuJoCo, or what to install. Apart from the settings, which are read where nothing is simulated or drawn."""

EGL_REMEDY = (
    "MuJoCo can't render without a screen: EGL is missing or has no driver. On Debian and Ubuntu: "
    "apt-get install libegl1 libgl1. Elsewhere, or to use another renderer, set MUJOCO_GL to osmesa or glfw."
)

try:
    import mujoco as mujoco
except (AttributeError, OSError) as error:  # what PyOpenGL raises where libEGL can't be loaded
    raise ImportError(EGL_REMEDY) from error
