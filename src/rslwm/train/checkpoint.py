"""Training state on disk: everything an exact resume needs, in one safetensors file, replaced atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rslwm.types import DataError


def write_atomically(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file so that a kill at any moment leaves the old file or the new one."""
    temporary = path.with_suffix(".tmp")
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, temporary, metadata)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def save_state(
    path: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    facts: dict[str, Any],
) -> None:
    """Save weights, optimiser moments, the moving average and the step.

    Random streams need no saving: they are functions of the step (see :func:`rslwm.compute.generator`).
    """
    tensors = {f"module/{k}": v for k, v in module.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{k}": v for k, v in average.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
    write_atomically(path, tensors, {"step": str(step), "facts": json.dumps(facts)})


def load_state(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None
) -> tuple[int, dict[str, Any]]:
    """Restore what :func:`save_state` wrote; returns the step and the facts.

    Raises:
        DataError: the file is truncated or belongs to another module.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise DataError(f"{path}: not a readable training state ({error}); delete it to start over") from None

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}

    try:
        module.load_state_dict(part("module"), strict=True)
        if average is not None:
            average.load_state_dict(part("average"), strict=True)
    except RuntimeError as error:
        raise DataError(f"{path}: belongs to another model ({error}); delete it to start over") from None
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimizer").items():
        index, name = key.split("/")
        moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"]), json.loads(metadata["facts"])
