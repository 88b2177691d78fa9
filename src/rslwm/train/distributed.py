"""One training in several processes: each takes its share of a step's batches, and all keep the same weights.

A batch stays whole, so losses that compare its samples, and its random numbers, don't depend on the number of
processes; nor does anything but the order in which gradients are added.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The processes of a training, of which this is number ``rank``. Alone, nothing is exchanged.

    All but the first write nothing.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls) -> Team:
        """With the processes that the environment names (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``, as
        torchrun sets them); alone if it names none."""
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return cls()
        dist.init_process_group()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batches: range) -> range:
        """This process's of the batches of a step, whose number ``size`` divides."""
        return batches[self.rank :: self.size]

    def led(self, flag: bool) -> bool:
        """What the first process says, whatever the others do."""
        if self.size == 1:
            return flag
        said = [flag]
        dist.broadcast_object_list(said)
        return said[0]

    def gather(self, own: list[T]) -> list[T]:
        """What all processes have of their batches, in the order of the batches."""
        if self.size == 1:
            return own
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, [_on_cpu(of_batch) for of_batch in own])
        return [of_batch for batches in zip(*parts, strict=True) for of_batch in batches]

    def average_gradients(self, module: nn.Module) -> None:
        """Give all processes the mean of their gradients, which a sharded module has already, and the first one's
        buffers, such as running statistics."""
        if self.size == 1:
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None and not _is_split(p)]
        if gradients:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(flat)
            parts = (flat / self.size).split([gradient.numel() for gradient in gradients])
            for gradient, mean in zip(gradients, parts, strict=True):
                gradient.copy_(mean.view_as(gradient))
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)

    def shard(self, *modules: nn.Module | None) -> None:
        """Split their parameters over the processes, in place and for good; of their ``blocks`` one is whole at a time.

        On the device that they compute on, and before an optimiser gets them.
        """
        if self.size == 1:
            return
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method  # takes most of a second

        for module in modules:
            if module is not None:
                mesh = dist.init_device_mesh(next(module.parameters()).device.type, (self.size,))
                for block in module.get_submodule("blocks").children():
                    fully_shard(block, mesh=mesh)
                    register_fsdp_forward_method(block, "modulations")
                fully_shard(module, mesh=mesh)

    def leave(self) -> None:
        """The training is over. Raises SystemExit in all processes but the first, which have no more to do."""
        if self.size > 1:
            dist.destroy_process_group()
        if not self.first:
            raise SystemExit(0)


ALONE = Team()


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which every process may hold a part; all must ask."""
    return tensor.full_tensor() if _is_split(tensor) else tensor  # type: ignore[attr-defined]


def part_of(tensor: Tensor, like: Tensor | None) -> Tensor:
    """What this process holds of a whole tensor if it holds a part of one like it; else the tensor as it is."""
    if like is None or not _is_split(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None)


def _on_cpu(value: Any) -> Any:
    """Tensors, also in a dict, where another process can have them."""
    if isinstance(value, dict):
        return {name: _on_cpu(part) for name, part in value.items()}
    return value.cpu() if isinstance(value, Tensor) else value


def _is_split(tensor: Tensor) -> bool:
    """A DTensor; asking for the class takes most of a second."""
    return hasattr(tensor, "full_tensor")
