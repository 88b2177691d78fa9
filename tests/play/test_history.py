"""The tree of what happened, and the states that it keeps."""

import numpy as np
import pytest

from rslwm.play import history
from rslwm.play.history import History, Node
from rslwm.serialisation import ConfigError

ONE = np.ones(1, np.int16)


def grown(length: int) -> History:
    """A branch whose states are sums of actions."""
    tree = History()
    tree.add(np.zeros(0, np.int16), None, 0)
    for depth in range(1, length):
        tree.add(ONE, None, depth)
    return tree


def again(state: int, node: Node) -> int:
    return state + int(node.action[0])


def test_few_states_are_kept_of_a_long_branch() -> None:
    tree = grown(200)
    assert len(tree.kept) <= 200 / history.MILESTONE + history.RECENT + 1


def test_any_state_is_found_again() -> None:
    tree = grown(60)
    for number in (59, 3, 0, 17):
        tree.go(number)
        assert tree.state(again) == number


def test_a_state_is_made_from_the_nearest_that_is_kept() -> None:
    tree, made = grown(60), []
    tree.go(19)
    tree.state(lambda state, node: made.append(node.number) or again(state, node))
    assert made == [17, 18, 19]


def test_a_path_leads_from_the_beginning_through_its_own_branch() -> None:
    tree = grown(4)
    tree.go(1)
    node = tree.add(ONE, None, 0)
    assert [step.number for step in tree.path()] == [0, 1, node.number]
    assert [step.number for step in tree.path(3)] == [0, 1, 2, 3]


@pytest.mark.parametrize("number", [-1, 3])
def test_a_frame_that_isn_t_there_is_named(number: int) -> None:
    with pytest.raises(ConfigError, match=f"frame {number}"):
        grown(3).go(number)
