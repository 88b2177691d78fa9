"""The sections of a report: a module each, with its template beside it under the same name.

A module that has a :class:`Section` as ``SECTION`` is one; nothing else names it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from rslwm.report.run import Run


@dataclass(frozen=True)
class Section:
    """A part of the page, in the ``order`` in which people ask. ``build`` gives what its template shows, its figures
    under "charts", and None where the run measured nothing of it."""

    title: str
    order: int
    build: Callable[[Run], Mapping[str, Any] | None]


def sections() -> dict[str, Section]:
    """By name, in their order."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        section = getattr(import_module(f"{__name__}.{module.name}"), "SECTION", None)
        if section is not None:
            found[module.name] = section
    return dict(sorted(found.items(), key=lambda item: item[1].order))
