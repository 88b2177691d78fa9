"""The simulator and world models as environments of Gymnasium: ``rslwm/Tabletop-v0`` and ``rslwm/WorldModel-v0``.

Importing this registers them. Gymnasium loads no entry points of other packages since its version 1.0, but it imports
the module in front of an id: ``gymnasium.make_vec("rslwm.envs.gym:rslwm/Tabletop-v0", num_envs=4)`` needs no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium

from rslwm.envs.places import Place, Places
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.envs.worlds import TabletopWorld
from rslwm.serialisation import ConfigError, from_dict
from rslwm.sim.config import SimConfig

_FRAME_SKIP = 2  # of what world models are trained with as a rule


def tabletop(
    num_envs: int = 1,
    families: Sequence[str] = SimConfig.families,
    sim: dict[str, Any] | None = None,
    frame_skip: int = _FRAME_SKIP,
    another: bool = False,
    **options: Any,
) -> Places:
    """The simulator, ``rslwm/Tabletop-v0``.

    Args:
        families: of the tasks, drawn for every episode.
        sim: fields of :class:`SimConfig` that differ from its defaults.
        frame_skip: control steps of an action.
        another: ask for something else of the same tables, see :meth:`SimulatedTabletop.starts`.
        options: arguments of :class:`Places`.

    Raises:
        ConfigError: an unknown field or family, or no camera.
    """
    config = from_dict(SimConfig, {**(sim or {}), "families": [*families]}, "sim")
    if not config.cameras or not config.families:
        raise ConfigError("sim.cameras and families: each needs at least one entry")
    return Places(num_envs, TabletopWorld(SimulatedTabletop(config, frame_skip), families, another), **options)


def tabletop_place(**options: Any) -> Place:
    """A single one of :func:`tabletop`."""
    return Place(tabletop(1, **options))


def register() -> None:
    """Make the ids known to Gymnasium; again is no harm."""
    # By name: what makes a checkpoint's data ready is a floor above.
    makers = {"Tabletop": (__name__, "tabletop"), "WorldModel": ("rslwm.study.worlds", "world_model")}
    for name, (module, maker) in makers.items():
        if (known := f"rslwm/{name}-v0") not in gymnasium.registry:
            single, several = f"{module}:{maker}_place", f"{module}:{maker}"
            gymnasium.register(known, single, vector_entry_point=several)


register()
