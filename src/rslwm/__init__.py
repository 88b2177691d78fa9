"""rslwm measures in which latent space a robot's world model should live."""

import os
import platform

__version__ = "0.1.0"

if platform.machine() in ("x86_64", "AMD64"):
    # Contacts are chaotic: a product that is rounded otherwise in its last digit makes another episode. So NumPy's BLAS
    # takes the same kernels on every such CPU, unless NumPy is there already; worker processes inherit it.
    os.environ.setdefault("OPENBLAS_CORETYPE", "Zen")
