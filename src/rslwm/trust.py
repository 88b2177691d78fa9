"""Whether programs that somebody else published may run. Only the person at the machine says so: never a configuration
or a checkpoint, which may be somebody else's, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

FLAG = "--trust"
VARIABLE = "RSLWM_TRUST"
"""Set to 1 it says yes; processes that work for this one see it."""


def trusted() -> bool:
    """Whether TorchScript files may be opened."""
    return os.environ.get(VARIABLE) == "1"


@contextmanager
def trusting() -> Iterator[None]:
    """Trust what is opened inside, also by processes that are started there."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
