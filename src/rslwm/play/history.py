"""What happened, as a tree: every frame has the one that it came from, and any of them can be gone on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rslwm.serialisation import ConfigError

MOST = 5000
"""Frames of a session."""
MILESTONE = 8
"""States are kept of every so many frames in a row, since a world model's hold its whole context."""
RECENT = 12
"""States that are kept of the frames visited last."""


@dataclass(frozen=True)
class Node:
    """One moment of all worlds."""

    number: int
    parent: int
    """-1 of where it all began."""
    depth: int
    """Actions since then."""
    action: np.ndarray
    """(A,) int16, see :func:`rslwm.play.link.quantised`; of the first one nothing (0,)."""
    shown: Any
    """What was seen."""


@dataclass
class History:
    """A tree of nodes, where one stands in it, and the states of some of them.

    The states of the others are made again when they are needed, by doing the same actions from the nearest one that
    is kept.
    """

    nodes: list[Node] = field(default_factory=list)
    current: int = 0
    _states: dict[int, Any] = field(default_factory=dict)
    _recent: list[int] = field(default_factory=list)

    @property
    def here(self) -> Node:
        """Where one stands."""
        return self.nodes[self.current]

    def add(self, action: np.ndarray, shown: Any, state: Any) -> Node:
        """What an action made of the node where one stands, where one stands from then on. Raises ConfigError: there
        are too many."""
        self.room()
        depth = self.here.depth + 1 if self.nodes else 0
        node = Node(len(self.nodes), self.current if self.nodes else -1, depth, action, shown)
        self.nodes.append(node)
        self.current = node.number
        self.keep(node.number, state)
        return node

    def room(self) -> None:
        """Raises ConfigError: there is none for one more."""
        if len(self.nodes) >= MOST:
            raise ConfigError(f"a session holds {MOST} frames, and these are all; begin anew")

    def node(self, number: int) -> Node:
        """Any that there is. Raises ConfigError: there is no such frame."""
        if not 0 <= number < len(self.nodes):
            raise ConfigError(f"frame {number}: there are 0 to {len(self.nodes) - 1}")
        return self.nodes[number]

    def go(self, number: int) -> Node:
        """Stand elsewhere. Raises ConfigError: there is no such frame."""
        self.current = self.node(number).number
        return self.here

    def path(self, number: int | None = None) -> list[Node]:
        """From the beginning to a node, by default to where one stands."""
        found, at = [], self.current if number is None else number
        while at >= 0:
            found.append(self.nodes[at])
            at = self.nodes[at].parent
        return found[::-1]

    def keep(self, number: int, state: Any) -> None:
        """A node's state; of those visited earlier all but the milestones are let go."""
        self._states[number] = state
        self._recent = [*(other for other in self._recent if other != number), number]
        while len(self._recent) > RECENT:
            old = self._recent.pop(0)
            if self.nodes[old].depth % MILESTONE:
                self._states.pop(old, None)

    def state(self, again: Callable[[Any, Node], Any]) -> Any:
        """The state of where one stands; ``again(state, node)`` makes that of a node from its parent's."""
        path, number = self.path(), self.current
        known = next(i for i, node in reversed([*enumerate(path)]) if node.number in self._states)
        state = self._states[path[known].number]
        for node in path[known + 1 :]:
            state = again(state, node)
            self.keep(node.number, state)
        self.keep(number, state)
        return state

    @property
    def kept(self) -> Sequence[int]:
        """The nodes whose states are kept."""
        return sorted(self._states)
