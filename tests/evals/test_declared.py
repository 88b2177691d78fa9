"""What built-in metrics declare: their rung and question."""

import pytest

from rslwm.evals.base import METRICS

BUILT_IN = {name: METRICS.get(name) for name in METRICS if METRICS.get(name).__module__.startswith("rslwm.")}


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_metric_says_what_it_asks_and_on_which_rung(name: str) -> None:
    for info in BUILT_IN[name].infos:
        assert info.rung is not None, info.name
        assert info.question.endswith("?"), info.name
