"""What built-in metrics declare: their rung and question, and needs that no other one's can be taken for."""

from collections import defaultdict

import pytest

from rslwm.evals.base import METRICS
from rslwm.evals.probe import Probe
from rslwm.evals.truth import Recording
from rslwm.serialisation import determining

BUILT_IN = {name: METRICS.get(name) for name in METRICS if METRICS.get(name).__module__.startswith("rslwm.")}
STILL_WITHOUT = {"gripper_readout", "object_readout", "visual"}


@pytest.mark.parametrize("name", sorted(BUILT_IN.keys() - STILL_WITHOUT))
def test_a_metric_says_what_it_asks_and_on_which_rung(name: str) -> None:
    for info in BUILT_IN[name].infos:
        assert info.rung is not None, info.name
        assert info.question.endswith("?"), info.name


@pytest.mark.parametrize("kind", [Probe, Recording])
def test_settings_tell_what_is_made_from_another_metric_s(kind: type) -> None:
    """A stage is known by what its probe or recording is set to, not by the class: two alike would be made once."""
    made: dict[str, set[type]] = defaultdict(set)
    for metric in BUILT_IN.values():
        for need in metric(metric.Config()).needs.values():
            if isinstance(need, kind):
                made[f"{determining(need)}"].add(type(need))
    assert made
    assert all(len(classes) == 1 for classes in made.values()), made
