"""Executors whose libraries may not be installed."""

import os
import sys
from importlib.util import find_spec

import pytest

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: pip install 'rslwm[ray]'")
needs_submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="needs submitit: pip install 'rslwm[slurm]'")
SUBMITIT = "slurm[cluster=local]"
RAY = pytest.param("ray", marks=[needs_ray, pytest.mark.slow])
SLURM = pytest.param(SUBMITIT, marks=[needs_submitit, pytest.mark.slow])


def seen_by_others() -> dict[str, str]:
    """Environment variables under which another process of this machine imports what this one does."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
