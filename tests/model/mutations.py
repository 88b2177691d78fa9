"""Ways to change one fact about a published function."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from published import Golden
from rslwm.model.dit import DiT

Mutation = Callable[[Golden, pytest.MonkeyPatch], None]


def change(owner: object, name: str, to: Callable[[Any], Any]) -> Mutation:
    """A function, method or constant of a module or class, made from what it was."""
    return lambda golden, patch: patch.setattr(owner, name, to(getattr(owner, name)))


def torch_functions(module: ModuleType, **others: Callable[..., torch.Tensor]) -> Callable[..., None]:
    """Other functions of ``torch.nn.functional`` in one of our modules."""
    return lambda changed, patch: patch.setattr(module, "F", SimpleNamespace(**{**vars(F), **others}))


def rebuilt(**config: Any) -> Mutation:
    """The same weights in a transformer of another configuration."""

    def mutate(golden: Golden, patch: pytest.MonkeyPatch) -> None:
        old = golden.dit
        golden.dit = DiT(replace(old.config, **config), old.x_proj.in_channels, old.action_embedder.in_features)
        golden.dit.load_state_dict(old.state_dict())

    return mutate


def weights(ending: str, to: Callable[[torch.Tensor], torch.Tensor]) -> Mutation:
    """All weights whose names end so: what another arrangement of them would compute."""

    def mutate(golden: Golden, patch: pytest.MonkeyPatch) -> None:
        found = [p for name, p in golden.dit.named_parameters() if name.endswith(ending)]
        assert found
        for parameter in found:
            parameter.data = to(parameter.data)

    return mutate


def both(*mutations: Mutation) -> Mutation:
    def mutate(golden: Golden, patch: pytest.MonkeyPatch) -> None:
        for mutation in mutations:
            mutation(golden, patch)

    return mutate


def objective(**config: Any) -> Mutation:
    """Another setting of the objective."""

    def mutate(golden: Golden, patch: pytest.MonkeyPatch) -> None:
        assert golden.objective is not None
        golden.objective = replace(golden.objective, config=replace(golden.objective.config, **config))

    return mutate
