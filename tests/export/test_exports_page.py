"""The Python of docs/exports.md: a world model under somebody else's planner."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from rslwm.model.world_model import WorldModel
from tiny import tiny_world_model

PAGE = Path(__file__).parents[2] / "docs/exports.md"
B, S, T, H = 2, 5, 2, 3


@pytest.fixture
def model(plugin: Path) -> WorldModel:
    return tiny_world_model(plugin)


@pytest.fixture
def costs(model: WorldModel) -> Any:
    first, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(first, PAGE.name, "exec"), names)
    return names["Costs"](model)


@pytest.fixture
def info(model: WorldModel) -> dict[str, torch.Tensor]:
    """As a solver of stable-worldmodel makes it: everything once a candidate."""
    g, side = torch.Generator().manual_seed(0), model.space.config.image_size
    one = {
        "pixels": torch.randint(256, (B, T, 3, side, side), generator=g, dtype=torch.uint8),
        "goal": torch.randint(256, (B, 1, 3, side, side), generator=g, dtype=torch.uint8),
        "action_history": torch.rand(B, T - 1, model.action_spec.dims, generator=g) * 2 - 1,
    }
    return {name: value[:, None].expand(-1, S, *value.shape[1:]) for name, value in one.items()}


@pytest.fixture
def candidates(model: WorldModel) -> torch.Tensor:
    return torch.rand(B, S, H, model.action_spec.dims, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_cost_a_candidate(costs: Any, info: dict[str, torch.Tensor], candidates: torch.Tensor) -> None:
    found = costs.get_cost(info, candidates)
    assert found.shape == (B, S)
    assert found.dtype == torch.float32
    assert (found > 0).all()


def test_costs_differ_by_the_actions_alone(costs: Any, info: dict[str, torch.Tensor], candidates: torch.Tensor) -> None:
    swapped = costs.get_cost(info, candidates.flip(1)).flip(1)
    assert torch.allclose(costs.get_cost(info, candidates), swapped, atol=1e-5)


def test_frames_may_be_bytes_or_numbers(costs: Any, info: dict[str, torch.Tensor], candidates: torch.Tensor) -> None:
    floats = info | {name: info[name].float() / 255 for name in ("pixels", "goal")}
    assert torch.allclose(costs.get_cost(info, candidates), costs.get_cost(floats, candidates))


def test_another_goal_costs_something_else(costs: Any, info: dict[str, torch.Tensor], candidates: torch.Tensor) -> None:
    other = info | {"goal": 255 - info["goal"]}
    assert not torch.allclose(costs.get_cost(info, candidates), costs.get_cost(other, candidates))
