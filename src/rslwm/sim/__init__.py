"""The embedded tabletop simulator: the default's data and its ground truth.

MuJoCo picks its renderer when it is imported, so the choice is made here, before any module of the package imports it.
"""

import os
import sys

if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
    # Mesa's software renderer would start a thread a core; recording already runs one process a core.
    os.environ.setdefault("LP_NUM_THREADS", "1")
